"""Writes the tables of the READMEs from the committed result files.

    python -m experiments.report

A table stands between ``<!-- NAME -->`` and ``<!-- end -->``, NAME being that of a file
in ``experiments/results``. Nothing is run: the files are what is published there.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from experiments import (
    _command_line,
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
_PLACE = re.compile(r"(<!-- (?!end )(\w[\w.-]*) -->\n).*?(<!-- end -->)", re.DOTALL)


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
