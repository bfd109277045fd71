"""CPU seconds to trace and compile programs over all kernels of a network.

    python -m experiments.benchmarks.compile

For the kernels of a ResNet-50 and of a transformer, without running anything: updates
of transforms, and value and gradient of a loss of the kernels that a reparameterization
makes. For comparison: Adam's update, and the energy of all kernels in ten plain lines,
which is less accurate at close pairs and needs the memory of all pairs. CPU seconds
depend less than wall time on what else is running, but still depend on it.
"""

import pathlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sphax as sx
from experiments.benchmarks import _figures, _timing
from experiments.common import progress

METHODS = (
    "cayley",
    "cayley_neumann",
    "exponential",
    "gram_schmidt",
    "householder",
    "lowdin",
)
TRANSFORMS = {
    "Adam": optax.adam(1e-3),
    "add_energy_gradient": sx.optim.add_energy_gradient(1.0),
    "add_orthogonality_gradient": sx.optim.add_orthogonality_gradient(1.0),
    "riemannian_adam": sx.optim.riemannian_adam(1e-3),
}
_PROBES = 3


@dataclass(frozen=True)
class Config(_figures.Config):
    """Size of the networks."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/compile.json")
    width: int = 16
    """Channels of the first stage of the ResNet; the transformer has twelve times as
    many features."""
    blocks: int = 12
    """Blocks of the transformer."""


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures, one for each network."""
    for network in figures["networks"]:
        kernels = f"{network['kernels']} kernels, {network['shapes']} shapes"
        yield f"| {network['name']}: {kernels} | tracing, s | compiling, s | both, s |"
        yield "|---|---|---|---|"
        for row in network["rows"]:
            tracing, compiling = row["tracing"], row["compiling"]
            seconds = f"{tracing:.1f} | {compiling:.1f} | {tracing + compiling:.1f}"
            yield f"| {row['name']} | {seconds} |"
        yield from _figures.end_of_table(network["quietness"])


def measure(config: Config) -> dict[str, Any]:
    """Measures both networks."""
    networks = {
        "ResNet-50": resnet(config.width),
        "transformer": transformer(12 * config.width, config.blocks),
    }
    return {"networks": [_measure(*network) for network in networks.items()]}


def resnet(width: int) -> dict[str, Any]:
    """Kernels of a ResNet-50 whose first stage has so many channels."""
    kernels, channels = {"stem": (7, 7, 3, width)}, width
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, outer = width * 2**stage, 4 * width * 2**stage
        for block in range(blocks):
            name = f"stage_{stage}_block_{block}"
            kernels[f"{name}_reduce"] = (1, 1, channels, inner)
            kernels[f"{name}_window"] = (3, 3, inner, inner)
            kernels[f"{name}_expand"] = (1, 1, inner, outer)
            if block == 0:
                kernels[f"{name}_shortcut"] = (1, 1, channels, outer)
            channels = outer
    return _params({**kernels, "classifier": (channels, 1000)})


def transformer(features: int, blocks: int) -> dict[str, Any]:
    """Kernels of a transformer for images, its attention as dense layers."""
    kernels = {"patches": (16, 16, 3, features), "classifier": (features, 1000)}
    for block in range(blocks):
        kernels[f"block_{block}_in"] = (features, 3 * features)
        kernels[f"block_{block}_out"] = (features, features)
        kernels[f"block_{block}_up"] = (features, 4 * features)
        kernels[f"block_{block}_down"] = (4 * features, features)
    return _params(kernels)


def plain_energy(params: dict[str, Any]) -> jax.Array:
    """Mean energy of all kernels, in ten lines, differentiated by JAX."""

    def energy(kernel):
        rows = kernel.reshape(-1, kernel.shape[-1]).T
        rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
        squares = jnp.maximum(2.0 - 2.0 * rows @ rows.T, 1e-12)
        is_pair = 1.0 - jnp.eye(len(rows))
        return jnp.sum(is_pair * jax.lax.rsqrt(squares)) / jnp.sum(is_pair)

    kernels = jax.tree.leaves(params)
    return sum((energy(kernel) for kernel in kernels), start=jnp.zeros([]))


def _params(kernels):
    return {
        name: {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
        for name, shape in kernels.items()
    }


def _measure(name: str, params: dict[str, Any]) -> dict[str, Any]:
    programs = {
        "energy in ten plain lines": (jax.value_and_grad(plain_energy), (params,)),
        **{key: _update(tx, params) for key, tx in TRANSFORMS.items()},
        **{f"orthogonal, {key}": _rotation(key, params) for key in METHODS},
    }
    probe = programs["Adam"]
    _cpu_seconds(*probe)  # the first compilation of a process takes longer
    before = np.array([sum(_cpu_seconds(*probe)) for _ in range(_PROBES)])
    rows = []
    for key, program in progress.each(list(programs.items()), name):
        tracing, compiling = _cpu_seconds(*program)
        rows.append({"name": key, "tracing": tracing, "compiling": compiling})
    after = np.array([sum(_cpu_seconds(*probe)) for _ in range(_PROBES)])
    leaves = jax.tree.leaves(params)
    return {
        "name": name,
        "kernels": len(leaves),
        "shapes": len({leaf.shape for leaf in leaves}),
        "quietness": _timing.quietness(before, after),
        "rows": rows,
    }


def _update(transform, params):
    state = jax.eval_shape(transform.init, params)
    return transform.update, (params, state, params)


def _rotation(method, params):
    training = sx.reparam.orthogonal(method=method, allow_large=True)
    free, frozen = jax.eval_shape(training.init, jax.random.key(0), params)

    def loss(free, frozen):
        kernels = jax.tree.leaves(training.apply(free, frozen))
        return sum(jnp.sum(kernel**2) for kernel in kernels)

    return jax.value_and_grad(loss), (free, frozen)


def _cpu_seconds(function: Callable[..., Any], arguments: tuple) -> tuple[float, float]:
    """CPU seconds of tracing and of compiling, without any cache."""
    config: Any = jax.config
    cache = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    jax.clear_caches()
    start = time.process_time()
    lowered = jax.jit(lambda *given: function(*given)).lower(*arguments)
    traced = time.process_time()
    lowered.compile()
    compiled = time.process_time()
    config.update("jax_enable_compilation_cache", cache)
    return traced - start, compiled - traced


def main() -> None:
    """Runs from the command line."""
    _figures.main("compile", Config, measure, tables)


if __name__ == "__main__":
    main()
