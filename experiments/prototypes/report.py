"""The tables and the figures of the study of prototypes, from stored runs."""

import pathlib
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found, unpack
from experiments.prototypes.config import CLASSES, NUMBERS, Config

# What the tables have of a run, with a number of digits.
_OF_CLASSES = {
    "error": ("error, %", 2),
    "margin": ("margin, °", 1),
    "within": ("within, °", 1),
    "max_cosine": ("largest cosine", 3),
    "in_order": ("triples in order, %", 0),
}
_OF_NUMBERS = {"angle": ("angle, °", 2), "contrast": ("contrast, %", 2)}

_Values = dict[tuple[int, str], dict[str, dict[int, float]]]


def values_of(found: Found, keys: dict[str, tuple[str, int]]) -> _Values:
    """Values of each row by seed, by dimension, method and key."""
    rows: _Values = {}
    for run, record in found:
        place = run.config.features[0], run.config.methods[0]
        row = rows.setdefault(place, {key: {} for key in keys})
        for key in keys:
            row[key][run.seed] = record["metrics"][key]
    return rows


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: dimensions and losses in the rows, and which differ."""
    of_numbers = config.preset == "poles"
    keys, titles = (_OF_NUMBERS, NUMBERS) if of_numbers else (_OF_CLASSES, CLASSES)
    rows = values_of(found, keys)
    heads = [head for head, _ in keys.values()]
    heads[0] += f" ({tables.number_of_seeds(found)})"
    lines = [["", "dimensions", *heads]]
    for (features, method), row in rows.items():
        cells = [tables.spread(row[key].values(), d) for key, (_, d) in keys.items()]
        lines.append([titles[method], str(features), *cells])
    yield from tables.markdown(lines)
    yield from verdict({place: row[next(iter(keys))] for place, row in rows.items()})
    if not of_numbers:
        bounds = {r.config.features[0]: x["metrics"]["bound"] for r, x in found}
        listed = ", ".join(f"{bound:.3f} in {d}" for d, bound in bounds.items())
        yield ""
        yield f"No prototypes have a largest cosine below {listed} dimensions."
    yield ""
    yield tables.caption(config.command, found)


def verdict(errors: dict[tuple[int, str], dict[int, float]]) -> Iterator[str]:
    """Which errors differ from the first method's in the same number of dimensions."""
    titles = CLASSES | NUMBERS
    bases: dict[int, str] = {}
    differences = {}
    for (features, method), values in errors.items():
        base = errors[features, bases.setdefault(features, method)]
        if method != bases[features] and len(values.keys() & base.keys()) >= 2:
            title = f"{titles[method]} in {features} dimensions"
            differences[title] = statistics.paired(values, base)
    if differences:
        base = f"{titles[next(iter(bases.values()))]}, in as many dimensions"
        yield from statistics.stated(base, differences, is_error=True)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Errors by dimension, or estimated angles by right ones."""
    if config.preset == "poles":
        _draw_angles(config, found, folder)
        return
    rows = values_of(found, _OF_CLASSES)
    dimensions = list(dict.fromkeys(features for features, _ in rows))
    with plt.style.context("sphax.plots.paper"):
        figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
        methods = list(dict.fromkeys(method for _, method in rows))
        for number, method in enumerate(methods):
            shift = 0.12 * (number - 0.5 * (len(methods) - 1))
            places = [d for d in dimensions if (d, method) in rows]
            errors = [np.array([*rows[d, method]["error"].values()]) for d in places]
            axis.errorbar(
                [dimensions.index(d) + shift for d in places],
                [np.mean(each) for each in errors],
                [np.std(each, ddof=min(1, len(each) - 1)) for each in errors],
                fmt="o",
                ms=4,
                capsize=2,
                label=CLASSES[method],
            )
        axis.set_xticks(range(len(dimensions)), [str(d) for d in dimensions])
        axis.set(xlabel="dimensions", ylabel="error, %", ylim=(0, None))
        axis.legend(fontsize=7)
        figures.save(figure, folder / f"{config.group}-errors.png")


def _draw_angles(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Of the first seed of each row."""
    drawn = {}
    for run, record in found:
        title = f"{NUMBERS[run.config.methods[0]]}, {run.config.features[0]} dimensions"
        drawn.setdefault(title, unpack(record["metrics"]["angles"]))
    columns = len({run.config.methods[0] for run, _ in found})
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(
            -(-len(drawn) // columns),
            columns,
            figsize=(2.3 * columns, 2.3 * -(-len(drawn) // columns)),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for axis, (title, (right, estimated)) in zip(
            axes.flat, drawn.items(), strict=False
        ):
            axis.plot([-60, 60], [-60, 60], color="0.7", lw=0.8)
            axis.scatter(right, estimated, s=2, linewidths=0)
            axis.set_title(title, fontsize=8)
            axis.set_aspect("equal")
        figure.supxlabel("angle, °", fontsize=9)
        figure.supylabel("estimated angle, °", fontsize=9)
        figures.save(figure, folder / f"{config.group}-angles.png")
