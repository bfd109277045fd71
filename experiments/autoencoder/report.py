"""The table and the figure of the autoencoder study, from stored runs."""

import pathlib
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np

from experiments.autoencoder.config import SOURCES, Config
from experiments.common import figures, tables
from experiments.common.runs import Found, unpack

_TITLES = {name: source.title for name, source in SOURCES.items()}
# What "nothing" is, the same for all seeds.
_BASELINES = {"mean": "*the mean image*", "another": "*another image*"}
_MEASURES = {"correlation": "correlation", "ssim": "SSIM"}


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: one row for each source and baseline."""
    rows = [[f"decoded from ({tables.number_of_seeds(found)})"]]
    for title in _MEASURES.values():
        rows[0] += [title, "over images ±"]
    for name, title in (_TITLES | _BASELINES).items():
        cells = [title]
        for key in _MEASURES:
            values = [record["metrics"]["sources"][name][key] for _, record in found]
            means = [value["mean"] for value in values]
            cells.append(tables.spread(means[:1] if name in _BASELINES else means, 3))
            # Not known of the runs before there was a file for each run.
            known = [x["deviation"] for x in values if x["deviation"] is not None]
            cells.append(f"{np.mean(known):.2f}" if known else "")
        rows.append(cells)
    yield from tables.markdown(rows)
    yield ""
    yield tables.caption(config.command, found)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes Figure 1.1: images, and what the first seed decodes from each source."""
    drawn = [record["metrics"] for _, record in found if record["metrics"]["images"]]
    if not drawn:
        return
    metrics = drawn[0]
    rows = {"image": unpack(metrics["images"])}
    rows |= {_TITLES[name]: unpack(metrics["decoded"][name]) for name in SOURCES}
    number = len(rows["image"])
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(
            len(rows),
            number,
            figsize=(0.6 * number + 1.6, 0.6 * len(rows)),
            squeeze=False,
            gridspec_kw={"wspace": 0.05, "hspace": 0.05},
        )
        for row, (title, images) in zip(axes, rows.items(), strict=True):
            for axis, image in zip(row, images, strict=True):
                axis.imshow(image, cmap="gray", vmin=0, vmax=255)
                axis.set_axis_off()
            row[0].text(
                -0.15, 0.5, title, transform=row[0].transAxes, ha="right", va="center"
            )
        figures.save(figure, folder / f"{config.group}-images.png")
