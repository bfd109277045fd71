"""The table and the figure of the few-shot study, from stored runs."""

import pathlib
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found, unpack
from experiments.few_shot.config import METHODS, Config

_DRAWS = 2_000
# Of Omniglot, in percent, as reported with prototypical networks.
_PUBLISHED = {
    "5-way 1-shot": 98.8,
    "5-way 5-shot": 99.7,
    "20-way 1-shot": 96.0,
    "20-way 5-shot": 98.9,
}


def tasks_of(found: Found) -> list[str]:
    """Names of the tasks."""
    return list(found[0][1]["metrics"]["accuracy"])


def accuracies(found: Found) -> dict[str, dict[str, dict[int, float]]]:
    """Accuracy in percent, by method, task and seed."""
    rows: dict[str, dict[str, dict[int, float]]] = {}
    for run, record in found:
        row = rows.setdefault(run.method, {})
        for task, value in record["metrics"]["accuracy"].items():
            row.setdefault(task, {})[run.seed] = value
    return rows


def intervals(
    config: Config, found: Found
) -> dict[str, dict[str, tuple[float, float]]]:
    """95 % intervals of the mean over the seeds, by method and task.

    The test episodes are drawn again, with replacement: the seeds stay as they are.
    """
    right: dict[str, dict[str, list[np.ndarray]]] = {}
    for run, record in found:
        row = right.setdefault(run.method, {})
        for task, packed in record["metrics"]["right"].items():
            row.setdefault(task, []).append(unpack(packed))
    ends: dict[str, dict[str, tuple[float, float]]] = {}
    for method, row in right.items():
        for task, counts in row.items():
            ways = int(task.split("-")[0])
            share = 100.0 * np.mean(counts, axis=0) / (ways * config.queries)
            drawn = np.random.default_rng(0).integers(
                len(share), size=(_DRAWS, len(share))
            )
            low, high = np.quantile(share[drawn].mean(1), (0.025, 0.975))
            ends.setdefault(method, {})[task] = float(low), float(high)
    return ends


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: accuracies with their intervals, and which differ."""
    rows, ends, tasks = accuracies(found), intervals(config, found), tasks_of(found)
    trained = [(run, record) for run, record in found if run.method != "pixels"]
    heads = [f"{task}, %" for task in tasks]
    if trained:
        heads[0] += f" ({tables.number_of_seeds(trained)})"
    lines = [["", *heads]]
    for method, row in rows.items():
        cells = []
        for task in tasks:
            low, high = ends[method][task]
            cells.append(
                f"{np.mean([*row[task].values()]):.2f} [{low:.2f}, {high:.2f}]"
            )
        lines.append([METHODS[method], *cells])
    if config.dataset == "omniglot":
        published = [f"{_PUBLISHED[task]:.1f}" for task in tasks]
        lines.append(["prototypical, published", *published])
    yield from tables.markdown(lines)
    yield from verdict(rows, tasks)
    yield ""
    yield tables.caption(config.command, found)


def verdict(
    rows: dict[str, dict[str, dict[int, float]]], tasks: list[str]
) -> Iterator[str]:
    """Which accuracies differ from those of Euclidean prototypes, over all tasks."""
    own = rows.get("prototypical", {})
    differences = {
        f"{METHODS[method]}, {task}": statistics.paired(row[task], own[task])
        for method, row in rows.items()
        for task in tasks
        if own
        and method != "prototypical"
        and len(row[task].keys() & own[task].keys()) >= 2
    }
    base = METHODS["prototypical"]
    yield from statistics.stated(base, differences, is_error=False)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Accuracies with their intervals, by task."""
    rows, ends, tasks = accuracies(found), intervals(config, found), tasks_of(found)
    with plt.style.context("sphax.plots.paper"):
        figure, axis = plt.subplots(
            figsize=(1.4 * len(tasks) + 2.0, 3.0), layout="constrained"
        )
        for number, (method, row) in enumerate(rows.items()):
            means = np.array([np.mean([*row[task].values()]) for task in tasks])
            low, high = np.array([ends[method][task] for task in tasks]).T
            places = np.arange(len(tasks)) + 0.15 * (number - 0.5 * (len(rows) - 1))
            axis.errorbar(
                places,
                means,
                (means - low, high - means),
                fmt="o",
                ms=4,
                capsize=2,
                label=METHODS[method],
            )
        axis.set_xticks(range(len(tasks)), tasks)
        axis.set(ylabel="accuracy, %", ylim=(None, 100))
        figure.legend(fontsize=7, loc="outside lower center", ncols=len(rows))
        figures.save(figure, folder / f"{config.group}-accuracy.png")
