"""The table and the figure of the study of hardness, from stored runs."""

import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from experiments.common import figures, statistics, tables
from experiments.common.margins import MARGINS
from experiments.common.runs import Found, unpack
from experiments.hardness.config import Config

_AXES = {
    "avh": "angular visual hardness",
    "confidence": "model confidence",
    "norm": r"$\|x\|$",
    "hsf": "human selection frequency",
}


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: rank correlations, a row for each loss."""
    pairs = list(found[0][1]["metrics"]["rank_correlations"])
    rows: dict[str, dict[str, dict[int, float]]] = {}
    samples: dict[tuple[str, str], list[np.ndarray]] = {}
    for run, record in found:
        title, metrics = MARGINS[run.config.methods[0]].title, record["metrics"]
        values = rows.setdefault(title, {})
        for key, packed in metrics.get("resampled", {}).items():
            samples.setdefault((title, key), []).append(unpack(packed))
        for key in pairs:
            value = metrics["rank_correlations"][key]
            values.setdefault(key, {})[run.seed] = value
        for key in ("avh", "error"):
            values.setdefault(key, {})[run.seed] = metrics[key]
    names = [" and ".join(map(_title, pair.split("_"))) for pair in pairs]
    heads = [f"rank correlation, {name}" for name in names]
    heads[0] += f" ({tables.number_of_seeds(found)})"
    digits = {**dict.fromkeys(pairs, 3), "avh": 3, "error": 2}
    lines = [["", *heads, "mean AVH", "error, %"]]
    for title, values in rows.items():
        cells = [tables.spread(values[key].values(), d) for key, d in digits.items()]
        for place, key in enumerate(pairs):
            if (title, key) in samples:
                mean = np.mean(samples[title, key], axis=0, dtype=np.float64)
                low, high = np.quantile(mean, [0.025, 0.975])
                cells[place] += f" ({low:.3f} to {high:.3f})"
        lines.append([title, *cells])
    yield from tables.markdown(lines)
    first = {title: values[pairs[0]] for title, values in rows.items()}
    yield from statistics.verdict(MARGINS["softmax"].title, first, is_error=None)
    yield ""
    if samples:
        yield (
            "In brackets: the middle 95 % if the test images are drawn with"
            " replacement, of the mean over the seeds."
        )
    yield tables.caption(config.command, found)


def _title(quantity: str) -> str:
    return quantity.upper() if quantity in ("avh", "hsf") else quantity


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Figure 1.2: for each pair of quantities, how many test images lie where.

    Of each loss the first seed is drawn.
    """
    drawn: dict[str, dict[str, Any]] = {}
    for run, record in found:
        title = MARGINS[run.config.methods[0]].title
        if "images" in record["metrics"]:
            drawn.setdefault(title, record["metrics"]["images"])
    if not drawn:
        return
    columns = len(next(iter(drawn.values())))
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(
            len(drawn),
            columns,
            figsize=(2.5 * columns + 0.5, 2.3 * len(drawn)),
            squeeze=False,
            layout="constrained",
        )
        for row, (title, pairs) in zip(axes, drawn.items(), strict=True):
            row[0].set_title(title, loc="left")
            for axis, (pair, where) in zip(row, pairs.items(), strict=True):
                counts = unpack(where["counts"])
                edges = [np.linspace(a, b, len(counts) + 1) for a, b in where["ends"]]
                # The logarithm shows single images beside the many easy ones.
                image = axis.pcolormesh(
                    *edges, np.where(counts, counts, np.nan).T, norm=LogNorm()
                )
                y, x = pair.split("_")
                axis.set(xlabel=_AXES[x], ylabel=_AXES[y])
                figure.colorbar(image, ax=axis, label="images", format="%d")
        figures.save(figure, folder / f"{config.group}-hardness.png")
