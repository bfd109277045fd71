"""Writes the tables of the READMEs, and the figures, from the committed results.

    python -m experiments.report
    python -m experiments.report --figures

A table is between ``<!-- STUDY/TABLE -->`` and ``<!-- end -->``; in the README of the
study, ``STUDY/`` is left out. ``benchmarks`` counts as a study. Nothing is run.
"""

import dataclasses
import importlib
import json
import pathlib
import re
from typing import Any

from experiments.common import cli, store
from experiments.common.runs import Run, flag, shown

ROOT = pathlib.Path(__file__).resolve().parents[1]
_PLACE = re.compile(r"(<!-- ([\w./-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Config:
    """Writes the tables of all READMEs from the committed results, in place.

    Nothing is run, and nothing outside of the marks is changed.
    """

    figures: bool = False
    """Also draw the figures of all studies again."""


def readmes() -> list[pathlib.Path]:
    """The files that have tables."""
    folder = ROOT / "experiments"
    return [ROOT / "README.md", *sorted(folder.rglob("README.md"))]


def rewrite(path: pathlib.Path) -> str:
    """The text of a README with new tables between its marks.

    Raises:
        ValueError: If a mark is not that of a table, or there are no results for it.
    """

    def table(match: re.Match) -> str:
        study, _, name = match[2].rpartition("/")
        study = study or path.parent.name
        make = _benchmark if study == "benchmarks" else _study
        try:
            lines = make(study, name)
        except ValueError as error:
            place = f"{path.relative_to(ROOT)}, <!-- {match[2]} -->"
            raise ValueError(f"{place}: {error}") from error
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return _PLACE.sub(table, path.read_text())


def found(study: str, name: str) -> tuple[Any, list[tuple[Run, dict[str, Any]]]]:
    """The settings of a table, and its published runs with their records."""
    if not (ROOT / "experiments" / study / "config.py").exists():
        raise ValueError(f"there is no study {study}.")
    config = importlib.import_module(f"experiments.{study}.config")
    chosen = [preset for preset in config.presets() if preset.group == name]
    if not chosen:
        raise ValueError(f"{study} has no table {name}.")
    results = store.published(study)
    runs = store.with_all_seeds(config.planned(chosen[0]), results)
    if not runs:
        raise ValueError(f"{results / name} has no runs.")
    return chosen[0], [(run, store.load(run, results) or {}) for run in runs]


def _study(study: str, name: str) -> list[str]:
    config, runs = found(study, name)
    report = importlib.import_module(f"experiments.{study}.report")
    return [*report.table(config, runs)]


def _benchmark(study: str, name: str) -> list[str]:
    path = ROOT / "experiments" / study / "results" / f"{name}.json"
    if not path.exists():
        raise ValueError(f"there is no {path}.")
    figures = json.loads(path.read_text())
    # One benchmark may have several files, such as margin_softmax_million.
    modules = path.parents[1].glob("[!_]*.py")
    names = [each.stem for each in modules if name.startswith(each.stem)]
    module = importlib.import_module(f"experiments.{study}.{max(names, key=len)}")
    usual = json.loads(json.dumps(dataclasses.asdict(module.Config()), default=str))
    words = [f"python -m {module.__name__}"]
    for key, value in figures["config"].items():
        if value != usual[key]:
            is_flag = isinstance(value, bool)
            words.append(flag(key) if is_flag else f"{flag(key)} {shown(value)}")
    lines = [*module.tables(figures)]
    lines += [""] * (lines[-1] != "")
    device, version = figures["device"].split(" (")[0], figures["versions"]["jax"]
    made = f"{device}, jax {version}, {figures['seconds']:.0f} s."
    return [*lines, f"`{' '.join(words)}`; {made}"]


def draw() -> None:
    """Draws the figures of all studies again."""
    for config in sorted((ROOT / "experiments").glob("*/config.py")):
        study = config.parent.name
        report = importlib.import_module(f"experiments.{study}.report")
        results = store.published(study)
        for group in sorted(path.name for path in results.iterdir() if path.is_dir()):
            report.draw(*found(study, group), results)
            print(f"{study}, {group}: drawn")


def main() -> None:
    """Runs from the command line."""
    with cli.ending("experiments.report", "run the same command again."):
        chosen = cli.parse("experiments.report", Config)
        # All of them first: an error leaves every file as it is.
        for path, text in [(path, rewrite(path)) for path in readmes()]:
            is_new = text != path.read_text()
            if is_new:
                path.write_text(text)
            print(f"{path.relative_to(ROOT)}: {'written' if is_new else 'unchanged'}")
        if chosen.figures:
            draw()


if __name__ == "__main__":
    main()
