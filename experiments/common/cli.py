"""The command line of the studies: arguments, errors, and how a command ends.

A command is a module, run as ``python -m experiments.NAME``. An error that its user can
correct is one line on stderr, with exit code 2; a failed training has exit code 1.
Stopped by Ctrl-C or by SIGTERM it ends in one line as well, with 130 or 143.
"""

import argparse
import ast
import contextlib
import dataclasses
import io
import math
import pathlib
import pickle
import re
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

import tyro

from experiments.common import interrupts, runs

_Config = TypeVar("_Config")
# Settings that may be zero, and what they must be less than. All others are positive.
_FROM_ZERO = {
    "annealing": math.inf,
    "drops": math.inf,
    "label_smoothing": 1.0,
    "momentum": 1.0,
    "orthogonality": math.inf,
    "seed": 2**31,
    "weight_decay": math.inf,
}


class UsageError(ValueError):
    """Arguments that the command does not have, or that it cannot read."""


def flag(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def check_numbers(config: Any, *, may_be_zero: Collection[str] = ()) -> None:
    """Refuses settings that are not positive, finite numbers.

    Args:
        config: A dataclass.
        may_be_zero: Settings that may be zero, beside those that may be in all studies.

    Raises:
        ValueError: Names the flag of the setting.
    """
    from_zero = _FROM_ZERO | dict.fromkeys(may_be_zero, math.inf)
    for field in dataclasses.fields(config):
        value, below = getattr(config, field.name), from_zero.get(field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not (number > 0 if below is None else 0 <= number < below):
                expected = "positive" if below is None else "zero or positive"
                if below is not None and math.isfinite(below):
                    expected = f"in [0, {below})"
            elif not math.isfinite(number):
                expected = "finite"
            else:
                continue
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise ValueError(f"{flag(field.name)} must be {expected}, got {shown}.")


def peek(arguments: Sequence[str] | None, *names: str) -> dict[str, Any]:
    """Values of some flags, before the others are read: those that set the defaults.

    A name that ends in ``?`` is of a flag without a value.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        if name.endswith("?"):
            first.add_argument(flag(name[:-1]), action="store_true")
        else:
            first.add_argument(flag(name), nargs="?")
    return vars(first.parse_known_args(arguments)[0])


def parse(
    name: str,
    config: type[_Config],
    arguments: Sequence[str] | None = None,
    default: _Config | None = None,
) -> _Config:
    """Settings from the command line.

    Args:
        name: Name of the module, such as ``"experiments.verify"``.
        config: A dataclass; its docstrings are the help.
        arguments: Words of the command line; those of the process if not given.
        default: Where the defaults come from, if not from the class.

    Raises:
        UsageError: If the arguments are not those of the class; in one line.
    """
    said = io.StringIO()
    defaults: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                config, prog=f"python -m {name}", args=arguments, **defaults
            )
    except SystemExit as stop:
        if not stop.code:  # after --help
            raise
    # The message in the box that tyro draws around a title and its explanations.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue())
    title, *lines = (line.strip(" │╭╮╰╯") for line in plain.splitlines())
    paragraphs = [[]]
    for line in lines:
        if line.strip("-─"):
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    message = " ".join(next(filter(None, paragraphs), [title]))
    message = message.removeprefix("Error parsing ").removeprefix("Config: ")
    raise UsageError(message.rstrip("."))


@contextlib.contextmanager
def ending(name: str, interrupted: str) -> Iterator[None]:
    """Ends the process in one line if something goes wrong inside.

    Args:
        name: Name of the module.
        interrupted: What is said after Ctrl-C or SIGTERM.
    """
    try:
        with interrupts.handled():
            yield
    except BaseException as error:
        # The exception of a signal may come out as another one: jaxlib makes a
        # ValueError of everything that is raised while it compares metadata of pytrees.
        if interrupts.received or isinstance(error, KeyboardInterrupt):
            number = interrupts.received[-1] if interrupts.received else signal.SIGINT
            interrupts.received.clear()
            line, code = f"interrupted: {interrupted}", 128 + number
        elif isinstance(error, UsageError):
            line, code = f"error: {error}; see python -m {name} --help", 2
        elif isinstance(error, OSError | ValueError | pickle.UnpicklingError):
            line, code = f"error: {error}", 2
        elif isinstance(error, FloatingPointError):
            line, code = f"error: {error}", 1
        else:
            raise
        print(line, file=sys.stderr)
        sys.exit(code)


def main(config: Any, train: Callable[..., Any], report: Any) -> None:
    """Runs a study: makes what is missing, prints its table, writes its figures.

    Args:
        config: The study's module of settings.
        train: Its function that trains.
        report: Its module of table and figures.
    """
    study = config.Config.study
    name = f"experiments.{study}"
    with ending(name, "the same command goes on from its last checkpoint."):
        chosen = config.parse()
        folder, results = chosen.runs / study, runs.published(study)
        runs.writable("--runs", folder)
        planned = config.planned(chosen)
        if chosen.publish:
            runs.writable("--publish", results)
            _check_declared(config, planned)
        runs.complete(
            planned,
            train,
            chosen.runs,
            side_by_side=getattr(chosen, "side_by_side", False),
            unit=getattr(config, "UNIT", "steps"),
        )
        found = [(run, runs.load(run, folder) or {}) for run in planned]
        if chosen.publish:
            for run in planned:
                run.path(results).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run.path(folder), run.path(results))
            found = [
                (run, runs.load(run, results) or {})
                for run in runs.with_all_seeds(planned, results)
            ]
        print("\n".join(report.table(chosen, found)))
        place = results if chosen.publish else folder
        report.draw(chosen, found, place)
        seconds = sum(record["provenance"]["seconds"] or 0.0 for _, record in found)
        print(f"\n{seconds:.0f} s; written to {place}/{planned[0].group}*")


def _check_declared(config: Any, planned: Sequence[runs.Run]) -> None:
    declared = [run for preset in config.presets() for run in config.planned(preset)]
    places = {(run.group, run.digest) for run in declared}
    for run in planned:
        if (run.group, run.digest) in places:
            continue
        usual = next(
            (x for x in declared if (x.group, x.method) == (run.group, run.method)),
            None,
        )
        settings = usual.settings if usual else {}
        differences = [
            f"{flag(key)} {_shown(settings[key])}, not {_shown(value)}"
            for key, value in run.settings.items()
            if key in settings and settings[key] != value
        ]
        raise ValueError(
            f"--publish must have the settings of a preset: that of {run.group},"
            f" {run.method} has {'; '.join(differences) or 'no such run'}. Leave"
            " --publish out, or change the preset."
        )


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


@dataclasses.dataclass(frozen=True)
class _List:
    """Lists the commands, each of which has --help."""


def list_commands(package: str, folder: pathlib.Path) -> None:
    """Prints the commands of a package, with the first line of each one's docstring."""
    with ending(package, "run the same command again."):
        parse(package, _List)
        # Only their texts: importing them takes seconds.
        paths = [
            *folder.glob("[!_]*.py"),
            *(path.parent / "__init__.py" for path in folder.glob("*/__main__.py")),
        ]
        names = {
            path.parent.name if path.stem == "__init__" else path.stem: path
            for path in paths
        }
        for name, path in sorted(names.items()):
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            print(f"python -m {package}.{name:14} {text.splitlines()[0]}")
        print("\nEach has --help.")
