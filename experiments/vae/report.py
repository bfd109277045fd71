"""The table and the figures of the study of autoencoders, from stored runs."""

import pathlib
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found, unpack
from experiments.vae.config import LATENTS, Config

_MEASURES = {
    "likelihood": ("log likelihood, nats", 2),
    "elbo": ("ELBO, nats", 2),
    "divergence": ("divergence, nats", 2),
    "few": ("5-NN, 100 labels, %", 1),
    "labeled": ("5-NN, all labels, %", 1),
}
Values = dict[int, dict[str, dict[str, dict[int, float]]]]


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: a row for each dimension and kind of code; what differs."""
    values = by_row(found)
    heads = [title for title, _ in _MEASURES.values()]
    rows = [["degrees of freedom", f"code ({tables.number_of_seeds(found)})", *heads]]
    for dimension, latents in values.items():
        for title, measured in latents.items():
            cells = [
                tables.spread(measured[key].values(), digits)
                for key, (_, digits) in _MEASURES.items()
            ]
            rows.append([str(dimension), title, *cells])
    yield from tables.markdown(rows)
    for key in ("likelihood", "few", "labeled"):
        differences = {
            f"{title}, {dimension}": statistics.paired(
                measured[key], latents[LATENTS["gaussian"]][key]
            )
            for dimension, latents in values.items()
            if LATENTS["gaussian"] in latents
            for title, measured in latents.items()
            if title != LATENTS["gaussian"]
            and len(measured[key].keys() & latents[LATENTS["gaussian"]][key]) >= 2
        }
        if not differences:
            continue
        signs = statistics.signs(differences)
        better, worse = (statistics.listed(differences, signs, s) for s in (1, -1))
        yield ""
        yield (
            f"{_MEASURES[key][0]}: significantly better than the Gaussian code of the"
            f" same dimension {statistics.RULE}: {better}; worse: {worse}."
        )
    yield ""
    yield tables.caption(config.command, found)


def by_row(found: Found) -> Values:
    """Measures by degrees of freedom, title of the code, measure and seed."""
    values: Values = {}
    for run, record in found:
        (dimension,), (latent,) = run.config.dimensions, run.config.latents
        row = values.setdefault(dimension, {}).setdefault(LATENTS[latent], {})
        for key in _MEASURES:
            row.setdefault(key, {})[run.seed] = record["metrics"][key]
    return values


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes the measures against the dimension, and codes of two dimensions."""
    with plt.style.context("sphax.plots.paper"):
        _draw_measures(config, found, folder)
        _draw_codes(config, found, folder)


def _draw_measures(config, found, folder):
    values = by_row(found)
    dimensions = sorted(values)
    keys = ("likelihood", "few", "labeled")
    figure, axes = plt.subplots(1, len(keys), figsize=(9, 2.8), layout="constrained")
    for axis, key in zip(axes, keys, strict=True):
        for title in LATENTS.values():
            seeds = [
                list(values[d][title][key].values()) if title in values[d] else []
                for d in dimensions
            ]
            known = [i for i, x in enumerate(seeds) if x]
            if not known:
                continue
            means = np.array([np.mean(seeds[i]) for i in known])
            spread = np.array([np.std(seeds[i]) for i in known])
            (line,) = axis.plot(known, means, "o-", ms=3, label=title)
            color = line.get_color()
            axis.fill_between(
                known, means - spread, means + spread, color=color, alpha=0.2, lw=0
            )
        axis.set_xticks(range(len(dimensions)), [str(d) for d in dimensions])
        axis.set(xlabel="degrees of freedom", ylabel=_MEASURES[key][0])
    axes[0].legend()
    figures.save(figure, folder / f"{config.group}-measures.png")


def _draw_codes(config, found, folder):
    drawn = {
        LATENTS[run.config.latents[0]]: record["metrics"]
        for run, record in reversed(found)
        if "means" in record["metrics"]
    }
    drawn = {title: drawn[title] for title in LATENTS.values() if title in drawn}
    if not drawn:
        return
    figure = plt.figure(figsize=(3.6 * len(drawn), 2.9), layout="constrained")
    for i, (title, metrics) in enumerate(drawn.items(), 1):
        codes, labels = (unpack(metrics[key]) for key in ("means", "labels"))
        is_sphere = codes.shape[-1] == 3
        projection = "mollweide" if is_sphere else None
        axis = figure.add_subplot(1, len(drawn), i, projection=projection)
        x, y = codes[:, 0], codes[:, 1]
        if is_sphere:  # longitude and latitude
            up = np.clip(codes[:, 2].astype(float), -1.0, 1.0)
            x, y = np.arctan2(codes[:, 1], codes[:, 0]), np.arcsin(up)
            axis.grid(color="0.85", lw=0.5)
            axis.set_xticklabels([])
            axis.set_yticklabels([])
        else:
            axis.set_aspect("equal")
        axis.scatter(x, y, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, s=3, lw=0)
        axis.set_title(title)
    figures.save(figure, folder / f"{config.group}-codes.png")
