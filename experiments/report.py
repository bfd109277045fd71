"""Writes the tables of the READMEs from the committed result files.

    python -m experiments.report

A table stands between ``<!-- NAME -->`` and ``<!-- end -->``, NAME being that of a file
in ``experiments/results``. Nothing is run: the files are what the experiments wrote.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import _recipes
from experiments.benchmarks import margin_softmax

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PLACE = re.compile(r"(<!-- (\w[\w.-]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def classification(results: dict[str, Any]) -> Iterator[str]:
    """Markdown table of a classification: error rate and angles, over the seeds."""
    published = _published(results["config"])
    seeds = max(map(len, results["methods"].values()), default=0)
    head = ["", f"error, % ({seeds} seeds)", "margin, °", "within, °"]
    head += ["dissertation, %"] * bool(published)
    yield _row(head)
    yield _row(["---"] * len(head))
    for name, runs in results["methods"].items():
        cells = [_recipes.METHODS[name].title]
        for key, digits in (("error", 2), ("margin", 1), ("within", 1)):
            cells.append(_spread([run[key] for run in runs], digits))
        yield _row(cells + [published.get(name, "")] * bool(published))


def _published(config: dict[str, Any]) -> dict[str, str]:
    """The dissertation's error rates for the same recipe, by method."""
    rates = _recipes.PUBLISHED.get((config["preset"], config["augment"]), ())
    if config["dataset"] == "fashion_mnist":
        rates = ()
    names = map(str, _recipes.METHODS)
    return {name: f"{rate:.2f}" for name, rate in zip(names, rates, strict=False)}


def _spread(values: list[float], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


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


def _table(name: str, content: dict[str, Any]) -> list[str]:
    if name.startswith("classify"):
        return [*classification(content), "", _classification_caption(content)]
    flags = _changed(content["config"], margin_softmax.Config())
    command = ["experiments.benchmarks.margin_softmax", *flags]
    return [*margin_softmax.tables(content), _caption(command, content)]


def rewrite(text: str, results: pathlib.Path) -> str:
    """``text`` with every marked table made anew.

    Raises:
        FileNotFoundError: If a mark names no file of ``results``.
    """

    def table(match: re.Match) -> str:
        content = json.loads((results / f"{match[2]}.json").read_text())
        return match[1] + "\n".join(_table(match[2], content)) + "\n" + match[3]

    return _PLACE.sub(table, text)


def main() -> None:
    """Rewrites the READMEs in place."""
    for path in (_ROOT / "README.md", _ROOT / "experiments" / "README.md"):
        path.write_text(rewrite(path.read_text(), _ROOT / "experiments" / "results"))
        print(f"wrote {path.relative_to(_ROOT)}")


if __name__ == "__main__":
    main()
