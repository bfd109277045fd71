"""The table and the figure of the energy study, from stored runs."""

import pathlib
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import figures, statistics, tables
from experiments.common.runs import Found
from experiments.energy.config import Config
from experiments.energy.regularizers import REGULARIZERS

_ENERGIES = {
    "full": "hidden, full space",
    "half": "hidden, half space",
    "output": "output, full space",
}
# Error rates after the last step, from the logs that the authors of MHE and CoMHE have
# published with their code, one run each, of CNN-9 on CIFAR-100.
_OFFICIAL = {
    "decay": 30.26,
    "mhe-0": 26.84, "mhe-1": 27.15, "mhe-2": 27.22,
    "angular-mhe-0": 28.03, "angular-mhe-1": 27.50, "angular-mhe-2": 27.24,
    "mhe-0-half": 26.25, "mhe-1-half": 26.40, "mhe-2-half": 26.01,
    "angular-mhe-0-half": 26.47, "angular-mhe-1-half": 26.58,
    "angular-mhe-2-half": 26.06,
    "rp-comhe": 24.41, "ap-comhe": 24.87, "adversarial-comhe": 25.26,
}  # fmt: skip
# The regularizers that fit into one picture.
_DRAWN = (
    *("none", "decay", "orthogonality", "mhe-0", "mhe-2", "mhe-2-half", "rp-comhe"),
    *("separation", "polarization", "uniformity"),
)
# Possible ticks of an axis that is linear about zero and logarithmic beyond.
_TICKS = (-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def table(config: Config, found: Found) -> Iterator[str]:
    """Lines of Markdown: one row for each regularizer; and which differ."""
    by_method: dict[str, dict[int, dict]] = {}
    for run, record in found:
        by_method.setdefault(run.method, {})[run.seed] = record["metrics"]
    errors = {
        REGULARIZERS[name].title: {seed: x["error"] for seed, x in runs.items()}
        for name, runs in by_method.items()
    }
    decay = errors.get(REGULARIZERS["decay"].title, {})
    is_official = config.preset != "quick" and config.dataset == "cifar100"
    is_paired = len(decay) > 1
    head = ["", f"error, % ({tables.number_of_seeds(found)})"]
    head += ["minus decay's"] * is_paired + [*_ENERGIES.values()]
    rows = [head + ["official error, %"] * is_official]
    for name, runs in by_method.items():
        title = REGULARIZERS[name].title
        cells = [title, tables.spread(errors[title].values(), 2)]
        if is_paired:
            # Seed by seed: both start from the same weights, and see the same batches.
            shared = errors[title].keys() & decay.keys()
            minus = [errors[title][seed] - decay[seed] for seed in shared]
            is_shown = minus and name != "decay"
            cells.append(tables.spread(minus, 2) if is_shown else "")
        for key in _ENERGIES:
            ends = [x["energies"][key][-1] for x in runs.values()]
            cells.append(tables.spread(ends, 2))
        known = f"{_OFFICIAL[name]:.2f}" if name in _OFFICIAL else ""
        rows.append(cells + [known] * is_official)
    least = found[0][1]["metrics"]["least"]
    bounds = [f"{least[key]:.2f}" for key in _ENERGIES]
    empty = [""] * (1 + is_paired)
    rows.append(["*lower bound of all*", *empty, *bounds, *[""] * is_official])
    yield from tables.markdown(rows)
    yield from statistics.verdict(REGULARIZERS["decay"].title, errors, is_error=True)
    yield ""
    yield tables.caption(config.command, found)


def draw(config: Config, found: Found, folder: pathlib.Path) -> None:
    """Writes energies during training, if the runs have them, by regularizer."""
    shown: dict[str, list[dict]] = {}
    for run, record in found:
        # Only the end is known of runs that are older than this format.
        if run.method in _DRAWN and len(record["metrics"]["energies"]["full"]) > 1:
            metrics = record["metrics"] | {"steps": run.steps}
            shown.setdefault(run.method, []).append(metrics)
    if not shown:
        return
    least = found[0][1]["metrics"]["least"]
    with plt.style.context("sphax.plots.paper"):
        figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.4), layout="constrained")
        for axis, (key, title) in zip(axes, _ENERGIES.items(), strict=True):
            line = {"color": "0.3", "lw": 0.8}
            axis.axhline(0.0, ls="--", label="random neurons", **line)
            axis.axhline(least[key], ls=":", label="lower bound", **line)
            for name, runs in shown.items():
                curves = np.array([x["energies"][key] for x in runs])
                steps = runs[0]["every"] * np.arange(curves.shape[1])
                steps = np.minimum(steps, runs[0]["steps"])
                number, mean = _DRAWN.index(name), curves.mean(0)
                color, label = f"C{number}", REGULARIZERS[name].title
                # Dashes over lines show where curves coincide.
                line = {"lw": 1.3, "ls": ("-", (0, (4, 3)))[number % 2]}
                axis.plot(steps, mean, color=color, label=label, **line)
                if len(curves) > 1:
                    spread = curves.std(0, ddof=1)
                    band = mean - spread, mean + spread
                    axis.fill_between(steps, *band, color=color, alpha=0.15, lw=0)
            linear = max(1e-2, -least[key])
            axis.set_yscale("symlog", linthresh=linear, linscale=2.0)
            low, high = axis.get_ylim()
            ticks = [x for x in _TICKS if x == 0 or abs(x) >= 0.4 * linear]
            ticks = [x for x in ticks if low <= x <= high]
            axis.set_yticks(ticks, map(str, ticks))
            axis.minorticks_off()
            axis.set(title=title, xlabel="steps", ylim=(low, high))
        axes[0].set_ylabel("energy above random, %")
        names = axes[0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=4, fontsize=8)
        figures.save(figure, folder / f"{config.group}-energies.png")
