"""The table and the figure of the study of adversarial networks."""

import pathlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found, unpack
from experiments.gan.config import TITLES, Config

_MEASURES = {
    "precision": ("precision, %", 1),
    "recall": ("recall, %", 1),
    "covered": ("covered", 1),
    "effective": ("effective", 2),
    "energy": ("energy of the critic", 4),
}
_COMPARED = {"precision": "Precision", "recall": "Recall", "effective": "Coverage"}


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: a row for each critic, and which differ from the plain one."""
    rows: dict[str, dict[str, dict[int, float]]] = {}
    for run, record in found:
        values = rows.setdefault(TITLES[run.config.methods[0]], {})
        for key in _MEASURES:
            values.setdefault(key, {})[run.seed] = record["metrics"][key]
    kinds = "modes" if config.dataset == "mixture" else "classes"
    heads = [title for title, _ in _MEASURES.values()]
    heads[2:4] = f"{kinds} covered", f"effective {kinds}"
    lines = [[f"critic ({tables.number_of_seeds(found)})", *heads]]
    for title, values in rows.items():
        cells = [
            tables.spread(values[key].values(), digits)
            for key, (_, digits) in _MEASURES.items()
        ]
        lines.append([title, *cells])
    yield from tables.markdown(lines)
    yield from _verdict(rows)
    yield ""
    yield tables.caption(config.command, found)


def _verdict(rows: dict[str, dict[str, dict[int, float]]]) -> Iterator[str]:
    """Which rows differ from the plain one, in a family of all measures compared."""
    plain = TITLES["plain"]
    differences = {
        f"{title}, {name.lower()}": statistics.paired(values[key], rows[plain][key])
        for key, name in _COMPARED.items()
        for title, values in rows.items()
        if plain in rows
        and title != plain
        and len(values[key].keys() & rows[plain][key].keys()) >= 2
    }
    if differences:
        signs = statistics.signs(differences)
        better, worse = (statistics.listed(differences, signs, x) for x in (1, -1))
        yield ""
        yield (
            f"Precision, recall and effective coverage, compared with {plain!r}"
            f" {statistics.RULE}, significantly better: {better}; worse: {worse}."
            " The others do not differ significantly."
        )


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Samples of the first run of each method."""
    samples: dict[str, Any] = {}
    for run, record in found:
        title = TITLES[run.config.methods[0]]
        samples.setdefault(title, unpack(record["metrics"]["samples"]))
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(
            1,
            len(samples),
            figsize=(2.1 * len(samples), 2.3),
            squeeze=False,
            layout="constrained",
        )
        for axis, (title, made) in zip(axes[0], samples.items(), strict=True):
            axis.set_title(title)
            if config.dataset == "mixture":
                axis.scatter(*made.astype(np.float32).T, s=1.5, lw=0, color="C0")
                axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
                continue
            # Six rows of eight images, with a gap between them.
            framed = np.pad(made[..., 0], ((0, 0), (0, 1), (0, 1)), constant_values=128)
            side = framed.shape[1:]
            grid = framed.reshape(6, 8, *side).swapaxes(1, 2)
            axis.imshow(grid.reshape(6 * side[0], 8 * side[1]), cmap="gray")
            axis.axis("off")
        figures.save(figure, folder / f"{config.group}-samples.png")
