"""Decoupled convolutions against the plain one of the same size.

    python -m experiments.benchmarks.operators

Times the output and both gradients, given a cotangent, of every magnitude with every
angular function, as ratios to those of the plain convolution, and of every weighting of
one of them. Memory is what XLA plans to hold at once: arguments, results and
temporaries. A ratio is the median over rounds, in which all candidates run once each.
Runs unchanged on a GPU or TPU, in bfloat16 with ``--dtype bfloat16``.
"""

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

import sphax as sx
from experiments.benchmarks import _figures, _timing
from experiments.common import progress

so = sx.operators
PLAIN = "plain convolution"


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/operators.json")
    sides: tuple[int, ...] = (32, 8)
    """Height and width of the maps, one table each."""
    channels: tuple[int, ...] = (128, 256)
    """Channels of inputs and outputs, for each of the sides."""
    batch: int = 16
    """Number of maps."""
    kernel_size: int = 3
    """Side of the window."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of inputs and kernel."""
    repetitions: int = 9
    """Rounds, in each of which all candidates run; medians are reported."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.sides) != len(self.channels):
            raise ValueError(
                f"--channels must be as many as --sides ="
                f" {' '.join(map(str, self.sides))}, got"
                f" {' '.join(map(str, self.channels))}."
            )


def measure(config: Config) -> dict[str, Any]:
    """Measures every size."""
    sizes = progress.each(
        list(zip(config.sides, config.channels, strict=True)), "sizes"
    )
    return {"sizes": [_measure(config, *size) for size in sizes]}


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures, one for each size."""
    for size in figures["sizes"]:
        side, channels = size["side"], size["channels"]
        yield f"| {side} x {side}, {channels} -> {channels} | ms | time | memory |"
        yield "|---|---|---|---|"
        for row in size["rows"]:
            yield (
                f"| {row['name']} | {row['seconds'] * 1e3:.1f} | {row['time']:.2f}"
                f" | {row['memory']:.2f} |"
            )
        yield from _figures.end_of_table(size["quietness"])


def _operators() -> dict[str, Callable[..., jax.Array]]:
    """All pairs of functions, and both weightings of a cheap and of a costly pair."""
    magnitudes = (
        so.Sphere(),
        so.Ball(rho=30.0),
        so.Tanh(rho=30.0),
        so.Linear(),
        so.Segmented(rho=30.0),
        so.Log(),
        so.Mix(),
    )
    angulars = so.Cosine(), so.SquareCosine(), so.LinearAngle(), so.Sigmoid()
    functions = [(h, g) for g in angulars for h in magnitudes]
    for weighted in ("linear", "nonlinear"):
        tanh = so.Tanh(rho=30.0, weighted=weighted)
        functions += [(tanh, so.Cosine()), (tanh, so.Sigmoid())]
    return {
        _name(h, g): partial(so.decoupled_conv, magnitude=h, angular=g)
        for h, g in functions
    }


def _name(magnitude: so.Magnitude, angular: so.Angular) -> str:
    weighted = magnitude.weighted
    suffix = "" if weighted == "none" else f", {weighted}ly weighted"
    return f"{type(magnitude).__name__} {type(angular).__name__}{suffix}"


def _plain(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        inputs, kernel, (1, 1), "SAME", dimension_numbers=layout
    )


def _step(operator: Callable[..., jax.Array]) -> Callable[..., Any]:
    def step(inputs, kernel, cotangent):
        outputs, pull_back = jax.vjp(operator, inputs, kernel)
        return outputs, *pull_back(cotangent)

    return step


def _arguments(config: Config, side: int, channels: int) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), 3)
    draw = partial(jax.random.normal, dtype=config.dtype)
    window = config.kernel_size, config.kernel_size
    maps = config.batch, side, side, channels
    fan_in = config.kernel_size**2 * channels
    kernel = draw(keys[1], (*window, channels, channels)) * fan_in**-0.5
    return draw(keys[0], maps), kernel, draw(keys[2], maps)


def _measure(config: Config, side: int, channels: int) -> dict[str, Any]:
    arguments = _arguments(config, side, channels)
    candidates = {
        name: _timing.compile_candidate(_step(operator), *arguments)
        for name, operator in ({PLAIN: _plain} | _operators()).items()
    }
    # The plain step returns an array for each argument.
    held = 2 * sum(argument.nbytes for argument in arguments)
    times, quietness = _timing.between_probes(candidates, config.repetitions)
    planned = {name: held + c.temporary_bytes for name, c in candidates.items()}
    return {
        "side": side,
        "channels": channels,
        "quietness": quietness,
        "rows": [
            {
                "name": name,
                "seconds": float(np.median(taken)),
                "time": float(np.median(taken / times[PLAIN])),
                "memory": planned[name] / planned[PLAIN],
                "temporary_bytes": candidates[name].temporary_bytes,
            }
            for name, taken in times.items()
        ],
    }


def main() -> None:
    """Runs from the command line."""
    _figures.main("operators", Config, measure, tables)


if __name__ == "__main__":
    main()
