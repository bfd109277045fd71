"""The table and the figure of the study of cosines between classes."""

import pathlib
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import figures, statistics, tables
from experiments.common.margins import MARGINS
from experiments.common.runs import Found, unpack
from experiments.confusion.config import Config

_MEASURES = {
    "within": ("cosine within", 3),
    "between": ("between", 3),
    "closest": ("of the closest two", 3),
    "error": ("error, %", 2),
}


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: a row for each loss; and whose classes are closer."""
    rows: dict[str, dict[str, dict[int, float]]] = {}
    for run, record in found:
        values = rows.setdefault(MARGINS[run.config.methods[0]].title, {})
        for key in _MEASURES:
            values.setdefault(key, {})[run.seed] = record["metrics"][key]
    head, *heads = (title for title, _ in _MEASURES.values())
    lines = [["", f"{head} ({tables.number_of_seeds(found)})", *heads]]
    for title, values in rows.items():
        cells = [
            tables.spread(values[key].values(), digits)
            for key, (_, digits) in _MEASURES.items()
        ]
        lines.append([title, *cells])
    yield from tables.markdown(lines)
    within = {title: values["within"] for title, values in rows.items()}
    yield from statistics.verdict(MARGINS["softmax"].title, within, is_error=None)
    yield ""
    yield tables.caption(config.command, found)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Figure 2.5: means over the seeds, all panels on one scale of colors."""
    matrices: dict[str, list[np.ndarray]] = {}
    for run, record in found:
        title = MARGINS[run.config.methods[0]].title
        matrices.setdefault(title, []).append(unpack(record["metrics"]["cosines"]))
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(
            1,
            len(matrices),
            figsize=(2.2 * len(matrices) + 0.5, 2.5),
            squeeze=False,
            layout="constrained",
        )
        for axis, (title, cosines) in zip(axes[0], matrices.items(), strict=True):
            mean = np.mean(cosines, axis=0, dtype=np.float64)
            # The range of a cosine, so that runs on other images compare as well.
            image = axis.imshow(mean, cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set(title=title, xlabel="class")
            axis.tick_params(labelsize=7)
        axes[0, 0].set_ylabel("class")
        figure.colorbar(image, ax=axes[0], label="mean cosine", shrink=0.8)
        figures.save(figure, folder / f"{config.group}-cosines.png")
