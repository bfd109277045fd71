"""Finetuning of a transformer by rotations: of its inputs, or of its kernels.

    python -m experiments.benchmarks.finetuning

Times a step of Adam on a transformer of which all kernels are trained, or adapters
alone. Weight-centric, an adapter rotates the kernel, which is then multiplied by the
inputs; input-centric, it rotates the inputs, and the kernel stays as it is: in float32,
in bfloat16, or in integers of 8 bits with a factor for each output. Activations are in
float32. Runs unchanged on a GPU or TPU; to use two cores of a CPU, start it with
``taskset -c 0,1``.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sphax as sx
from experiments.benchmarks import _figures, _timing
from experiments.common import progress


@dataclasses.dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/finetuning.json")
    tokens: int = 128
    """Inputs of a step, which attend to those before them."""
    blocks: int = 12
    """Blocks of the transformer."""
    width: int = 768
    """Width of the transformer."""
    hidden: int = 3072
    """Hidden units of the dense layers of a block."""
    heads: int = 12
    """Heads of the attention."""
    adapters: tuple[str, ...] = ("OFT", "BOFT", "HRA", "PSOFT")
    """Methods."""
    bases: tuple[str, ...] = ("float32", "bfloat16", "int8")
    """Dtypes of the kernels under adapters."""
    repetitions: int = 5
    """Rounds, in each of which all candidates run; medians are reported."""

    def __post_init__(self):
        super().__post_init__()
        for name, known in (("adapters", tuple(ADAPTERS)), ("bases", tuple(BASES))):
            if others := set(getattr(self, name)) - set(known):
                raise ValueError(
                    f"--{name} must be among {', '.join(known)}, got"
                    f" {', '.join(sorted(others))}."
                )
        if self.width % self.heads:
            raise ValueError(
                f"--heads must divide --width, got {self.heads} and {self.width}."
            )


def _principal(key: jax.Array, kernel: jax.Array) -> Any:
    """PSOFT in any subspace: which one it is does not change its cost."""
    rank = min(32, *kernel.shape)
    basis, _ = jnp.linalg.qr(jax.random.normal(key, (kernel.shape[0], rank)))
    ones = jnp.ones(rank)
    raw = jnp.zeros(rank * (rank - 1) // 2)
    return sx.reparam.SubspaceRotation(raw, basis, left_scale=ones, right_scale=ones)


# Functions of a key and a kernel, with the sizes that are usual for a method.
ADAPTERS: dict[str, Callable[..., Any]] = {
    "OFT": lambda _, kernel: sx.reparam.BlockRotation.init(kernel, block_size=32),
    "BOFT": lambda _, kernel: sx.reparam.ButterflyRotation.init(
        kernel, block_size=8, factors=2
    ),
    "HRA": functools.partial(sx.reparam.Reflections.init, count=8),
    "PSOFT": _principal,
}


def _to_integers(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    scale = jnp.abs(kernel).max(axis=-2) / 127.0
    return jnp.round(kernel / scale[..., None, :]).astype(jnp.int8), scale


# A kernel as it is kept, and the factor of each output.
BASES: dict[str, Callable[[jax.Array], tuple[jax.Array, jax.Array | None]]] = {
    "float32": lambda kernel: (kernel, None),
    "bfloat16": lambda kernel: (kernel.astype(jnp.bfloat16), None),
    "int8": _to_integers,
}

# Outputs of a layer by its inputs, what is trained of it, and what is fixed.
Layer = Callable[..., jax.Array]


def plain(x: jax.Array, trained: jax.Array, fixed: Any) -> jax.Array:
    """The layer whose kernel is trained."""
    del fixed
    return x @ trained


def weight_centric(x: jax.Array, trained: Any, fixed: Any) -> jax.Array:
    """The layer whose kernel is rotated."""
    (kernel, scale), basis = fixed
    if scale is not None:
        kernel = kernel * scale[None, :]
    adapter = _whole(trained, basis)
    return x @ sx.reparam.merge_adapter(kernel, adapter).astype(x.dtype)


def input_centric(x: jax.Array, trained: Any, fixed: Any) -> jax.Array:
    """The layer whose inputs are rotated."""
    (kernel, scale), basis = fixed
    return sx.reparam.adapt(x, kernel, _whole(trained, basis), kernel_scale=scale)


def _whole(trained: Any, basis: jax.Array | None) -> Any:
    """The adapter with its basis, of which Adam keeps no moments."""
    return trained if basis is None else dataclasses.replace(trained, basis=basis)


def loss_of(
    trained: Any, fixed: Any, inputs: jax.Array, *, layer: Layer, heads: int
) -> jax.Array:
    """Mean square of what the transformer returns for ``[tokens, width]``.

    Arrays of all blocks are stacked on the first axis.
    """

    def block(x, of_block):
        trained, fixed = of_block

        def dense(name, x):
            return layer(x, trained[name], fixed[name])

        normal = _normalized(x)
        queries, keys, values = (
            dense(name, normal).reshape(1, len(x), heads, -1)
            for name in ("query", "key", "value")
        )
        mixed = jax.nn.dot_product_attention(queries, keys, values, is_causal=True)
        x = x + dense("out", mixed.reshape(x.shape))
        hidden = jax.nn.gelu(dense("up", _normalized(x)))
        return x + dense("down", hidden), None

    outputs, _ = jax.lax.scan(block, inputs, (trained, fixed))
    return jnp.mean(outputs**2)


def _normalized(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def make_kernels(config: Config) -> dict[str, jax.Array]:
    """Kernels of all blocks by name."""
    width, hidden = config.width, config.hidden
    shapes = dict.fromkeys(("query", "key", "value", "out"), (width, width))
    shapes |= {"up": (width, hidden), "down": (hidden, width)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        name: jax.random.normal(key, (config.blocks, *shape)) / shape[0] ** 0.5
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def make_adapters(
    method: str, kernels: dict[str, jax.Array]
) -> tuple[dict[str, Any], dict[str, jax.Array | None]]:
    """Adapters of all blocks by name of the kernel, and their bases apart."""
    trained, bases = {}, {}
    for number, (name, stack) in enumerate(kernels.items()):
        keys = jax.random.split(jax.random.key(number), len(stack))
        each = [ADAPTERS[method](*pair) for pair in zip(keys, stack, strict=True)]
        adapter = jax.tree.map(lambda *x: jnp.stack(x), *each)
        bases[name] = getattr(adapter, "basis", None)
        trained[name] = jax.tree.map_with_path(
            lambda path, x: None if path[-1].name == "basis" else x, adapter
        )
    return trained, bases


def _candidate(
    trained: Any, fixed: Any, layer: Layer, inputs: jax.Array, heads: int
) -> tuple[_timing.Candidate, dict[str, Any]]:
    """Steps of Adam, each from where the last one ended, and what they need."""
    adam = optax.adam(1e-3)
    loss = functools.partial(loss_of, layer=layer, heads=heads)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(trained, state, fixed, inputs):
        value, slopes = jax.value_and_grad(loss)(trained, fixed, inputs)
        updates, state = adam.update(slopes, state, trained)
        return (optax.apply_updates(trained, updates), state), value

    # Copied, since a step writes its results into the memory of its arguments.
    kept = [jax.tree.map(jnp.copy, trained), adam.init(trained)]
    compiled = step.lower(*kept, fixed, inputs).compile()

    def call():
        kept[:], value = compiled(*kept, fixed, inputs)
        return value

    candidate = _timing.Candidate(call, (), _timing.temporary_bytes(compiled))
    _timing.seconds(candidate)
    return _timing.repeated(candidate), {
        "trained": sum(x.size for x in jax.tree.leaves(trained)),
        "kept_bytes": sum(x.nbytes for x in jax.tree.leaves((kept, fixed))),
        "temporary_bytes": candidate.temporary_bytes,
    }


def measure(config: Config) -> dict[str, Any]:
    """Measures all methods."""
    kernels = make_kernels(config)
    inputs = jax.random.normal(jax.random.key(1), (config.tokens, config.width))
    kept = {
        base: {name: BASES[base](kernel) for name, kernel in kernels.items()}
        for base in config.bases
    }
    # What is trained, what is fixed, and the layer; and words for the table.
    chosen: dict[str, tuple[Any, Any, Layer]] = {}
    rows: dict[str, dict[str, Any]] = {}
    chosen["full"] = kernels, dict.fromkeys(kernels), plain
    rows["full"] = {"name": "full", "base": "float32"}
    for method in config.adapters:
        trained, bases = make_adapters(method, kernels)
        for base in config.bases:
            fixed = {name: (kept[base][name], bases[name]) for name in kernels}
            for layer in (weight_centric, input_centric):
                name = f"{method}, {layer.__name__.replace('_', '-')}"
                chosen[f"{name}, {base}"] = trained, fixed, layer
                rows[f"{name}, {base}"] = {"name": name, "base": base}
    candidates = {}
    for name in progress.each(list(chosen), "methods"):
        candidates[name], of_one = _candidate(*chosen[name], inputs, config.heads)
        rows[name] |= of_one
    times, quietness = _timing.between_probes(candidates, config.repetitions, "rounds")
    for name, taken in times.items():
        rows[name]["seconds"] = float(np.median(taken))
    return {"quietness": quietness, "rows": list(rows.values())}


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown table of the figures."""
    config = figures["config"]
    yield (
        f"| {config['blocks']} blocks of width {config['width']},"
        f" {config['tokens']:,} tokens | kernels | trained numbers | s | / full"
        " | temporaries, MiB | kept, MiB | all, / full |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    full = figures["rows"][0]
    for row in figures["rows"]:
        memory = row["temporary_bytes"] + row["kept_bytes"]
        of_full = full["temporary_bytes"] + full["kept_bytes"]
        yield (
            f"| {row['name']} | {row['base']} | {row['trained']:,}"
            f" | {row['seconds']:.2f} | {row['seconds'] / full['seconds']:.2f}"
            f" | {row['temporary_bytes'] / 2**20:.0f}"
            f" | {row['kept_bytes'] / 2**20:.0f} | {memory / of_full:.2f} |"
        )
    yield from _figures.end_of_table(figures["quietness"])


def main() -> None:
    """Runs from the command line."""
    _figures.main("finetuning", Config, measure, tables)


if __name__ == "__main__":
    main()
