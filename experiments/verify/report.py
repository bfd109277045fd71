"""The table and the figure of the open-set study, from stored runs."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import sphax as sx
from experiments.common import figures, statistics, tables
from experiments.common.objectives import METHODS
from experiments.common.runs import Found
from experiments.verify.config import MAIN, PIXELS, Config
from experiments.verify.train import FAR, FOLDS

_MEASURES = {
    "accuracy": "accuracy, %",
    "accuracy_pca": "accuracy with PCA, %",
    "eer": "EER, %",
    "tar": "TAR at FAR = 1 %, %",
    "rank_1": "rank 1, %",
    "one_shot": "20-way one-shot, %",
}
# Accuracy on LFW of the dissertation's Table 2.5, in percent.
_PUBLISHED: dict[str, float] = {
    "softmax": 96.53,
    "softmax-contrastive": 97.31,
    "l-softmax-2": 97.81,
    "l-softmax-3": 98.27,
    "l-softmax-4": 98.71,
}
# Metrics by seed.
_Seeds = Mapping[int, dict[str, Any]]


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: a row for each loss; which differ from softmax; the data."""
    by_method: dict[str, dict[int, dict[str, Any]]] = {}
    for run, record in found:
        by_method.setdefault(run.method, {})[run.seed] = record["metrics"]
    pixels = by_method.pop(PIXELS, {}).get(0)
    trained = [(run, record) for run, record in found if run.method != PIXELS]
    keys = dict.fromkeys(key for _, r in found for key in r["metrics"])
    measures = {key: head for key, head in _MEASURES.items() if key in keys}
    is_published = config.dataset == "lfw_aligned"
    head, *heads = measures.values()
    if trained:
        several = any(len(seeds) > 1 for seeds in by_method.values())
        spread = "" if several else ", ± error over the folds"
        head += f" ({tables.number_of_seeds(trained)}{spread})"
    lines = [["", head, *heads]]
    lines[0] += ["dissertation, accuracy, %"] * is_published
    if pixels is not None:
        cells = [f"{pixels[key]:.2f}" if key in pixels else "" for key in measures]
        lines.append(["Pixels, no network", *cells, *[""] * is_published])
    for name, seeds in by_method.items():
        cells = [tables.spread([x[key] for x in seeds.values()], 2) for key in measures]
        if len(seeds) == 1:
            (only,) = seeds.values()
            cells[0] += f" ± {only['standard_error']:.2f}"
        cells += [str(_PUBLISHED.get(name, ""))] * is_published
        lines.append([METHODS[name].title, *cells])
    yield from tables.markdown(lines)
    yield ""
    if pixels is not None and by_method:
        means = [
            np.mean([x["accuracy"] for x in s.values()]) for s in by_method.values()
        ]
        above = sum(mean > pixels["accuracy"] for mean in means)
        yield f"The accuracy of {above} of {len(means)} losses is above the pixels'."
    yield from _verdict(by_method)
    if pixels is not None:
        data = pixels["data"]
        means = f" (means over {data['splits']} splits)" * (data["splits"] > 1)
        yield (
            f"Trained on {data['train_images']} images of {data['train_classes']}"
            f" classes, tested on {data['test_images']} of {data['test_classes']}"
            f" others; {data['genuine_pairs']} genuine and {data['impostor_pairs']}"
            f" impostor pairs{means}."
        )
    yield tables.caption(config.command, found)


def _verdict(by_method: Mapping[str, _Seeds]) -> Iterator[str]:
    """Which losses are significantly better or worse than softmax."""
    if (softmax := by_method.get("softmax")) is None:
        return
    rule, differences = statistics.RULE, {}
    accuracy = {
        name: {seed: x["accuracy"] for seed, x in seeds.items()}
        for name, seeds in by_method.items()
    }
    for name, seeds in by_method.items():
        shared = sorted(seeds.keys() & softmax.keys())
        if name == "softmax" or not shared:
            continue
        if len(softmax) > 1:
            if len(shared) > 1:
                found = statistics.paired(accuracy[name], accuracy["softmax"])
                differences[name] = found
            continue
        # A single run, by its error over the folds.
        rule = rule.replace("paired t-test over the seeds", "t-test over the folds")
        one, base = seeds[shared[0]], softmax[shared[0]]
        error = float(np.hypot(one["standard_error"], base["standard_error"]))
        difference = one["accuracy"] - base["accuracy"]
        differences[name] = statistics.between(difference, error, 2 * (FOLDS - 1))
    if not differences:
        return
    signs = statistics.signs(differences)
    mean = np.mean(list(accuracy["softmax"].values()))
    yield f"Accuracy less softmax's ({mean:.2f} %), in points, {rule}:"
    yield ""
    for kind, has_margin in (("margin", True), ("other", False)):
        chosen = {
            METHODS[name].title: sign
            for name, sign in signs.items()
            if METHODS[name].has_margin == has_margin
        }
        by_title = {METHODS[name].title: x for name, x in differences.items()}
        better, alike, worse = (
            statistics.listed(by_title, chosen, sign) for sign in (1, 0, -1)
        )
        number = sum(sign > 0 for sign in chosen.values())
        yield (
            f"- {number} of {len(chosen)} {kind} losses are better: {better}. Not"
            f" significantly different: {alike}. Worse: {worse}."
        )
    yield ""


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """ROC curves, means over the seeds with their range."""
    curves: dict[str, list[np.ndarray]] = {name: [] for name in MAIN}
    for run, record in found:
        if run.method in MAIN and "roc" in record["metrics"]:
            curve = np.array(record["metrics"]["roc"], float)
            curves[run.method].append(curve)
    if not any(curves.values()):
        return
    systems = {
        METHODS[name].title: sx.metrics.Interval(
            np.mean(seeds, axis=0),
            np.min(seeds, axis=0),
            np.max(seeds, axis=0),
            np.array(seeds),
            "range over the seeds",
        )
        for name, seeds in curves.items()
        if seeds
    }
    with plt.style.context("sphax.plots.paper"):
        figure, axis = plt.subplots(figsize=(5.6, 3.2))
        sx.plots.roc(systems, far=FAR, axes=axis)
        axis.grid(color="0.92", lw=0.6)
        figure.legend(loc="outside right center")
        figures.save(figure, folder / f"{config.group}-roc.png")
