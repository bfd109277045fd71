"""Writes the tables of the READMEs from the committed result files.

    python -m experiments.report

A table stands between ``<!-- NAME -->`` and ``<!-- end -->``, NAME being that of a file
in ``experiments/results``. Nothing is run: the files are what is published there.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from experiments import (
    _command_line,
    _comparison,
    _objectives,
    _open_set,
    _open_set_recipes,
    _progress,
    _recipes,
    _results,
    autoencoder,
    energy,
    opt,
    robustness,
    thomson,
)
from experiments._classification import classification
from experiments.benchmarks import compile as compile_benchmark
from experiments.benchmarks import energy as energy_benchmark
from experiments.benchmarks import (
    margin_softmax,
    operators,
    orthogonal,
    pairwise,
)
from experiments.benchmarks import opt as opt_benchmark
from experiments.benchmarks import verification as verification_benchmark

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PLACE = re.compile(r"(<!-- (\w[\w.-]*) -->\n).*?(<!-- end -->)", re.DOTALL)


_MEASURES = {
    "accuracy": "accuracy, %",
    "accuracy_pca": "accuracy with PCA, %",
    "eer": "EER, %",
    "tar": "TAR at FAR = 1 %, %",
    "rank_1": "rank 1, %",
    "one_shot": "20-way one-shot, %",
}


def verification(results: dict[str, Any]) -> Iterator[str]:
    """Markdown table of an open-set experiment, and what it says of the margins."""
    first = next(iter(results["methods"].values()))
    measures = {key: head for key, head in _MEASURES.items() if key in first[0]}
    is_published = results["config"]["dataset"] == "lfw_aligned"
    spread = f"over {len(first)} seeds" if len(first) > 1 else "error over the folds"
    head = [f"± {spread}", *measures.values()]
    head += ["dissertation, accuracy, %"] * is_published
    pixels = [results["pixels"].get(key) for key in measures]
    cells = [f"{value:.2f}" if value is not None else "" for value in pixels]
    rows = [head, ["Pixels, no network", *cells, *[""] * is_published]]
    for name, runs in results["methods"].items():
        cells = [_objectives.METHODS[name].title]
        cells += [_progress.spread([run[key] for run in runs], 2) for key in measures]
        if len(runs) == 1:
            cells[1] += f" ± {runs[0]['standard_error']:.2f}"
        cells += [_objectives.PUBLISHED.get(name, "")] * is_published
        rows.append(list(map(str, cells)))
    yield from _progress.markdown(rows)
    pixels = results["pixels"]["accuracy"]
    above = sum(_center(runs)[0] > pixels for runs in results["methods"].values())
    number = len(results["methods"])
    yield ""
    yield f"The accuracy of {above} of {number} losses is above that of the pixels."
    yield from verdict(results)


def verdict(results: dict[str, Any]) -> Iterator[str]:
    """Which losses beat softmax, which do not, and which are not told apart from it."""
    methods = dict(results["methods"])
    softmax = methods.pop("softmax", None)
    if softmax is None:
        yield "Softmax was not trained: there is nothing to compare with."
        return
    differences = {
        _objectives.METHODS[name].title: _difference(runs, softmax)
        for name, runs in methods.items()
    }
    base, _ = _center(softmax)
    rule = _comparison.RULE
    if len(softmax) == 1:
        rule = rule.replace("paired t-test over the seeds", "t-test over the folds")
    yield f"Accuracy less that of softmax ({base:.2f} %), in points, told apart {rule}:"
    yield ""
    signs = _comparison.signs(differences)
    for kind, has_margin in (("margin", True), ("other", False)):
        own = {
            method.title: signs[method.title]
            for method in map(_objectives.METHODS.__getitem__, methods)
            if method.has_margin == has_margin
        }
        better, alike, worse = (
            _comparison.listed(differences, own, sign) for sign in (1, 0, -1)
        )
        number = sum(sign > 0 for sign in own.values())
        yield (
            f"- {number} of {len(own)} {kind} losses beat softmax: {better}."
            f" Not told apart: {alike}. Worse: {worse}."
        )


def _difference(
    runs: list[dict[str, Any]], base: list[dict[str, Any]]
) -> _comparison.Difference:
    """Over the seeds; of one run, by its error over the folds."""
    if len(runs) > 1:
        accuracies = ([run["accuracy"] for run in each] for each in (runs, base))
        return _comparison.paired(*accuracies)
    (mean, error), (other, other_error) = _center(runs), _center(base)
    error = float(np.hypot(error, other_error))
    return _comparison.between(mean - other, error, 2 * (_open_set.FOLDS - 1))


def _center(runs: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean accuracy and its standard deviation; of one run, that over its folds."""
    values = [run["accuracy"] for run in runs]
    if len(values) == 1:
        return values[0], runs[0]["standard_error"]
    return float(np.mean(values)), float(np.std(values, ddof=1))


def _verification_caption(results: dict[str, Any]) -> str:
    config, data = results["config"], results["data"]
    default = _open_set_recipes.recipe(config["dataset"])
    flags = [f"--dataset {config['dataset']}"] * (config["dataset"] != "digits")
    command = ["experiments.verify", *flags, *_changed(config, default)]
    of = f" (means over {data['splits']} splits)" if data["splits"] > 1 else ""
    return (
        f"Trained on {data['train_images']} images of {data['train_classes']} classes,"
        f" tested on {data['test_images']} of {data['test_classes']} others;"
        f" {data['genuine_pairs']} genuine and {data['impostor_pairs']} impostor"
        f" pairs{of}. {_caption(command, results)}"
    )


def _classification_caption(results: dict[str, Any]) -> str:
    config = results["config"]
    default = _recipes.preset(config["preset"], config["dataset"], config["augment"])
    flags = [f"--preset {config['preset']}"] * (config["preset"] != "quick")
    flags += [f"--dataset {config['dataset']}"] * (default.dataset != "digits")
    flags += ["--augment"] * config["augment"] + _changed(config, default)
    return _caption(["experiments.classify", *flags], results)


def _changed(config: dict[str, Any], default: Any) -> list[str]:
    """Flags for the settings in which a configuration departs from another."""
    usual = json.loads(json.dumps(dataclasses.asdict(default), default=str))
    return [
        _flag(name.replace("_", "-"), value)
        for name, value in config.items()
        if value != usual[name] and name != "output"
    ]


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    values = value if isinstance(value, list) else [value]
    return f"--{name} {' '.join(map(str, values))}"


def _caption(command: list[str], figures: dict[str, Any]) -> str:
    return (
        f"`python -m {' '.join(command)}`; {figures['device'].split(' (')[0]},"
        f" jax {figures['versions']['jax']}, {figures['seconds']:.0f} s."
    )


# Results whose module makes the table, by the beginning of their names.
_TABLES: dict[str, tuple[Any, Callable[[dict[str, Any]], Iterable[str]]]] = {
    "autoencoder": (autoencoder, autoencoder.table),
    "benchmark_compile": (compile_benchmark, compile_benchmark.tables),
    "benchmark_energy": (energy_benchmark, energy_benchmark.tables),
    "benchmark_margin_softmax": (margin_softmax, margin_softmax.tables),
    "benchmark_operators": (operators, operators.tables),
    "benchmark_opt": (opt_benchmark, opt_benchmark.tables),
    "benchmark_orthogonal": (orthogonal, orthogonal.tables),
    "benchmark_pairwise": (pairwise, pairwise.tables),
    "benchmark_verification": (verification_benchmark, verification_benchmark.tables),
    "energy": (energy, energy.tables),
    "opt": (opt, opt.tables),
    "robustness": (robustness, robustness.tables),
    "thomson": (thomson, thomson.table),
}


def _table(name: str, content: dict[str, Any]) -> list[str]:
    if name.startswith("classify"):
        return [*classification(content), "", _classification_caption(content)]
    if name.startswith("verify"):
        return [*verification(content), "", _verification_caption(content)]
    module, tables = next(_TABLES[key] for key in _TABLES if name.startswith(key))
    command = [module.__name__, *_changed(content["config"], module.Config())]
    lines = list(tables(content))
    lines += [""] * (lines[-1] != "")
    return [*lines, _caption(command, content)]


def rewrite(text: str, results: pathlib.Path) -> str:
    """``text`` with every marked table made anew.

    Raises:
        FileNotFoundError: If a mark names no file of ``results``.
    """

    def table(match: re.Match) -> str:
        content = json.loads((results / f"{match[2]}.json").read_text())
        return match[1] + "\n".join(_table(match[2], content)) + "\n" + match[3]

    return _PLACE.sub(table, text)


@dataclasses.dataclass(frozen=True)
class Config:
    """Writes the tables of README.md and experiments/README.md, in place.

    They are made from the committed files in experiments/results. Nothing is run, and
    nothing outside of the marks of the tables is changed.
    """


def main() -> None:
    """Runs from the command line."""
    with _command_line.ending("experiments.report", "run the same command again."):
        _command_line.parse("experiments.report", Config)
        for path in (_ROOT / "README.md", _ROOT / "experiments" / "README.md"):
            before = path.read_text()
            after = rewrite(before, _results.PUBLISHED)
            if after != before:
                path.write_text(after)
            state = "left as it is" if after == before else "written"
            print(f"{path.relative_to(_ROOT)}: {state}")


if __name__ == "__main__":
    main()
