"""Checks that sphax works on this machine.

    python -m sphax.doctor

Prints versions, devices and the precision of products, then a line for each check, and
what to do about those that fail. The exit code is 1 if one fails.
"""

import argparse
import collections
import importlib.metadata
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sphax import (
    __version__,
    energy,
    losses,
    margins,
    orthogonal,
    sharding,
    sphere,
)


class Check(NamedTuple):
    """One line of the output.

    Attributes:
        name: What is checked.
        problem: Function that says what is wrong; an empty text if nothing is. An
            exception counts as a failure.
        remedy: What to do if it fails.
    """

    name: str
    problem: Callable[[], str]
    remedy: str


def versions() -> str:
    """The versions of sphax and of what it is built on."""
    names = "jax", "jaxlib", "flax", "optax"
    others = (f"{name} {importlib.metadata.version(name)}" for name in names)
    start = f"sphax {__version__}, Python {platform.python_version()}"
    return ", ".join([start, *others])


def settings() -> Iterator[str]:
    """Devices, default dtypes and the precision of products, a line each."""
    config: Any = jax.config
    kinds = collections.Counter(device.device_kind for device in jax.devices())
    devices = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    yield f"devices: {devices} ({jax.default_backend()})"
    x64 = "on" if config.jax_enable_x64 else "off"
    usual = jnp.result_type(float), jnp.result_type(int)
    yield f"default dtypes: {usual[0]} and {usual[1]} (x64 is {x64})"
    asked = config.jax_default_matmul_precision or "not set"
    error = product_error(None)
    yield (
        f"products of float32: computed in {precision_of(error)}, with a relative error"
        f" of {error:.0e} (jax_default_matmul_precision is {asked})"
    )


def product_error(precision: jax.lax.PrecisionLike) -> float:
    """The relative error of a product of matrices in float32."""
    a, b = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    found = np.asarray(jnp.matmul(a, b, precision=precision), np.float64)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def precision_of(error: float) -> str:
    """The arithmetic in which a product has that error."""
    if error < 3e-6:
        return "float32"
    if error < 1e-4:
        return "three passes of bfloat16"
    # TF32 and float16 keep 10 bits of each number behind the point, bfloat16 keeps 7.
    return "TF32" if error < 1.2e-3 else "bfloat16"


def _devices() -> str:
    return "" if int(jnp.arange(4).sum()) == 6 else "0 + 1 + 2 + 3 is not 6"


def _accelerator() -> str:
    is_unused = pathlib.Path("/dev/nvidia0").exists() and jax.default_backend() == "cpu"
    is_meant = "cpu" in os.environ.get("JAX_PLATFORMS", "")
    return "the CPU is used beside an NVIDIA card" if is_unused and not is_meant else ""


def _highest_precision() -> str:
    error = product_error("highest")
    return (
        "" if error < 3e-6 else f"{precision_of(error)}, with an error of {error:.0e}"
    )


def _broadcast_products() -> str:
    project = jax.jit(sphere.project_to_tangent)
    for n, d in (11_000, 3), (8_000, 9), (1_000, 33):
        rng = np.random.default_rng(0)
        point, vectors = rng.normal(size=d), rng.normal(size=(n, d))
        with jax.numpy_rank_promotion("allow"):
            found = project(point.astype(np.float32), vectors.astype(np.float32))
        unit = point / np.linalg.norm(point)
        exact = vectors - (vectors @ unit)[:, None] * unit
        error = np.abs(found - exact).max()
        if not error < 1e-5:
            return f"sphere.project_to_tangent of [{n}, {d}] is off by {error:.0e}"
    return ""


def _dtypes() -> str:
    rng = np.random.default_rng(0)
    embeddings, prototypes = rng.normal(size=(8, 16)), rng.normal(size=(5, 16))
    labels = np.arange(8) % 5
    units = [
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (embeddings, prototypes)
    ]
    logits = 8.0 * (units[0] @ units[1].T - 0.35 * np.eye(5)[labels])
    exact = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(8), labels])
    step = jax.jit(
        lambda x, w: jax.value_and_grad(losses.margin_softmax)(
            x, w, labels, margins.CosFace(margin=0.35), scale=8.0, precision="highest"
        )
    )
    for dtype in jnp.float32, jnp.bfloat16, jnp.float16:
        loss, gradient = step(
            jnp.asarray(embeddings, dtype), jnp.asarray(prototypes, dtype)
        )
        error, limit = abs(float(loss) - exact), 8.0 * float(jnp.finfo(dtype).eps)
        if not error < limit:
            return f"losses.margin_softmax in {dtype.dtype} is off by {error:.0e}"
        if gradient.dtype != dtype or not jnp.isfinite(gradient).all():
            return (
                f"the gradient of losses.margin_softmax in {dtype.dtype} is not finite"
            )
    return ""


def _gradients() -> str:
    # The zero vector, coincident rows, opposite ones, and rows that are prototypes.
    rows = jnp.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [-1, 0, 0]], jnp.float32)
    labels = jnp.array([0, 0, 1, 1])
    functions: dict[str, Callable[[jax.Array], Any]] = {
        "sphere.angle": lambda x: sphere.angle(x, jnp.roll(x, 1, axis=0)),
        "losses.margin_softmax": lambda x: losses.margin_softmax(
            x, jnp.eye(3), labels, margins.ArcFace()
        ),
        "losses.contrastive": lambda x: losses.contrastive(x, labels),
        "losses.triplet": lambda x: losses.triplet(x, labels),
        "energy.hyperspherical_energy": lambda x: energy.hyperspherical_energy(
            x, power=2.0
        ),
    }

    @jax.jit
    def slopes(rows):
        return {
            name: jax.grad(lambda x, f=function: jnp.sum(f(x)))(rows)
            for name, function in functions.items()
        }

    wrong = [name for name, g in slopes(rows).items() if not jnp.isfinite(g).all()]
    return f"not finite: {', '.join(wrong)}" if wrong else ""


def _orthogonal_maps() -> str:
    matrix = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    for name in "cayley", "exponential", "gram_schmidt", "householder":
        q = np.asarray(getattr(orthogonal, name)(matrix), np.float64)
        error = np.linalg.norm(q.T @ q - np.eye(32))
        if not error < 1e-5 or q.shape != (32, 32):
            return f"orthogonal.{name}: Q^T Q is off by {error:.0e}"
    return ""


def _icosahedron() -> str:
    found = energy.minimize_energy(jax.random.key(0), 12, 3, restarts=1)
    total = 66 * float(found.energy)
    # The lowest energy of 12 charges on the sphere is that of the icosahedron.
    is_right = abs(total - 49.165253058) < 1e-3
    return "" if is_right else f"the energy is {total:.6f} in place of 49.165253"


def _class_parallel() -> str:
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("devices",), devices=devices)
    rng = np.random.default_rng(0)
    examples, classes = 2 * len(devices), 3 * len(devices)
    embeddings = rng.normal(size=(examples, 8)).astype(np.float32)
    prototypes = rng.normal(size=(classes, 8)).astype(np.float32)
    arguments = embeddings, prototypes, np.arange(examples), margins.ArcFace()
    options = {"scale": 8.0, "precision": "highest"}
    places = {"mesh": mesh, "class_axis": "devices", "batch_axis": "devices"}

    def step(loss: Callable[..., jax.Array], options: dict[str, Any]):
        return jax.jit(jax.value_and_grad(lambda *x: loss(*x, **options), (0, 1)))

    one = step(losses.margin_softmax, options)(*arguments)
    many = step(sharding.margin_softmax, options | places)(*arguments)
    errors = jax.tree.map(lambda x, y: np.abs(np.asarray(x) - y).max(), one, many)
    error = max(jax.tree.leaves(errors))
    if not error < 1e-5:
        return f"{len(devices)} devices differ from one by {error:.0e}"
    return ""


_COMPARE = (
    "Run it with JAX_PLATFORMS=cpu. If that passes, the compiler or the driver of the"
    " device is at fault: update both. If not, install jax, jaxlib and sphax anew."
)
DEVICES = Check(
    "devices compute",
    _devices,
    "Unset JAX_PLATFORMS, or install jax for the platform that it names, and look"
    " whether another process holds the device.",
)
CHECKS = (
    Check(
        "the accelerator is in use",
        _accelerator,
        "Install sphax with its extra: pip install 'sphax[cuda]'. If the CPU is meant,"
        " set JAX_PLATFORMS=cpu.",
    ),
    Check(
        "products of the highest precision are in float32",
        _highest_precision,
        "Remove what lowers the precision from XLA_FLAGS, and update jax and jaxlib.",
    ),
    Check(
        "sums of products with a broadcast vector",
        _broadcast_products,
        "jaxlib 0.10.2 computes them wrongly on CPUs (jax issue 39103): install another"
        " version of jax and jaxlib.",
    ),
    Check(
        "losses in float32, bfloat16 and float16 are those of the definition",
        _dtypes,
        "Convert arrays to another dtype on this device. " + _COMPARE,
    ),
    Check("gradients are finite at singular points", _gradients, _COMPARE),
    Check("orthogonal maps give orthogonal matrices", _orthogonal_maps, _COMPARE),
    Check("12 points of lowest energy form an icosahedron", _icosahedron, _COMPARE),
    Check(
        "classes split over the devices give the loss of one device",
        _class_parallel,
        "Run it with JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8. If that passes, the"
        " connections between the devices are at fault.",
    ),
)


def passes(check: Check) -> bool:
    """Prints the line of a check, and what to do if it fails."""
    try:
        problem = check.problem()
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        problem = f"{type(error).__name__} {first}".strip()
    if problem:
        print(f"failed  {check.name}: {problem}\n        {check.remedy}", flush=True)
    else:
        print(f"ok      {check.name}", flush=True)
    return not problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs from the command line; returns the exit code."""
    argparse.ArgumentParser(
        prog="python -m sphax.doctor",
        description="Checks that sphax works on this machine, in half a minute at most."
        " Prints versions, devices and the precision of products, then a line for each"
        " check, and what to do about those that fail. The exit code is 1 if one does.",
    ).parse_args(arguments)
    print(versions(), flush=True)
    if not passes(DEVICES):
        return 1
    for line in settings():
        print(line, flush=True)
    # All of them, also after a failure.
    return 0 if all([passes(check) for check in CHECKS]) else 1


if __name__ == "__main__":
    sys.exit(main())
