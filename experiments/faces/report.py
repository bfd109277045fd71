"""The table of the study and its curves, from stored runs, and estimates of costs."""

import math
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

from experiments.common import class_parallel, costs, figures, tables
from experiments.common.runs import Found
from experiments.faces.config import PRESETS, Config, planned
from experiments.faces.train import open_training

_DEVICES = 8


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: a row for each margin and rate, with the last accuracies."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for run, record in found:
        by_method.setdefault(run.method, []).append(record["metrics"])
    first = found[0][1]["metrics"]
    names = _names(first)
    head = ["", *(f"{name}, %" for name in names), "images kept, %"]
    has_kept = any("kept" in metrics for (metrics, *_) in by_method.values())
    rows = [head[: len(names) + 1 + has_kept]]
    for method, several in by_method.items():
        cells = []
        for name in names:
            values = [_last(metrics)[name] for metrics in several]
            cells.append(tables.spread(values, 2))
            if len(several) == 1:
                cells[-1] += f" ± {_last(several[0])[f'{name}, error']:.2f}"
        kept = [100.0 * metrics.get("kept", 1.0) for metrics in several]
        rows.append([method, *cells, *[tables.spread(kept, 1)] * has_kept])
    yield from tables.markdown(rows)
    yield ""
    several = len(by_method) < len(found)
    spread = "standard deviation over the seeds" if several else "error over the folds"
    yield (
        f"{first['images']} images of {first['identities']} identities, on"
        f" {first['devices']} devices; {tables.number_of_seeds(found)}; ±"
        f" {spread}. Rule: {first['rule']}."
    )
    yield ""
    yield tables.caption(config.command, found)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Draws the loss of each run, and the accuracies that were measured on the way."""
    with plt.rc_context(figures.STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.0))
        for run, record in found:
            metrics = record["metrics"]
            losses = metrics["losses"]
            steps = (np.arange(len(losses)) + 0.5) * run.steps / len(losses)
            left.plot(steps, losses, label=run.method)
            for name in _names(metrics):
                points = [
                    (each["step"], each[name]) for each in metrics["verification"]
                ]
                right.plot(
                    *zip(*points, strict=True),
                    marker="o",
                    label=f"{run.method}, {name}",
                )
        left.set(xlabel="step", ylabel="loss")
        right.set(xlabel="step", ylabel="accuracy, %")
        left.legend()
        right.legend()
        figures.save(figure, folder / f"{config.group}-curves.png")


def _names(metrics: dict[str, Any]) -> list[str]:
    """Of the verification sets."""
    return [key for key in _last(metrics) if f"{key}, error" in _last(metrics)]


def _last(metrics: dict[str, Any]) -> dict[str, float]:
    return metrics["verification"][-1]


def estimates(config: Config) -> Iterator[str]:
    """Lines of Markdown: memory and time of each run on two machines of eight devices.

    With data, their number of images counts; else that of the preset.
    """
    images, identities, _ = PRESETS[config.preset]
    if config.data is not None and config.data.exists():
        source = open_training(config)
        images, identities = len(source), source.num_classes
    steps = config.epochs * (images // config.batch)
    yield f"{images} images of {identities} identities; {steps} steps."
    yield ""
    rows = [["", "machine", "parameters", "held", "temporary", "--accumulate"]]
    rows[0] += ["s a step", "images/s", "hours"]
    for run in planned(config):
        network, found = class_parallel.costs_of(run.config, identities, _DEVICES)
        leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
        prototypes = identities * config.subcenters * network.features
        for name in ("TPU v5e", "H100"):
            machine = costs.MACHINES[name]
            seconds = found.seconds(machine) * config.accumulate
            # Into how many parts the batch has to be cut for it to fit.
            room = machine.memory - found.held
            parts = math.ceil(config.accumulate * found.temporaries / max(room, 1.0))
            cells = [
                run.method,
                f"{_DEVICES} {name}",
                f"{sum(x.size for x in leaves) / 1e6:.1f} + {prototypes / 1e6:.1f} M",
                f"{found.held / 1e9:.2f} GB",
                f"{found.temporaries / 1e9:.2f} of {machine.memory / 1e9:.0f} GB",
                f"{parts} or more" if parts > config.accumulate else "fits",
                f"{seconds:.3f}",
                f"{config.batch / seconds:.0f}",
                f"{steps * seconds / 3600:.1f}",
            ]
            rows.append(cells)
    yield from tables.markdown(rows)
    yield ""
    yield (
        "Parameters are those of the network and of the prototypes; bytes are of each"
        " device, before the compiler fuses operations; times are of machines at the"
        " peaks of their data sheets, without reading images and verifying."
    )
