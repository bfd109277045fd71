"""The command line of the studies: arguments, errors, exit codes.

A command is a module, run as ``python -m experiments.NAME``. An error that the user can
correct is one line on stderr, with exit code 2; a failed training has exit code 1.
Ctrl-C and SIGTERM end in one line too, with exit codes 130 and 143.
"""

import argparse
import contextlib
import io
import pickle
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import tyro

from experiments.common import interrupts, store
from experiments.common.runs import Run, flag, shown

_Config = TypeVar("_Config")


class UsageError(ValueError):
    """Arguments that the command does not have or cannot read."""


def peek(arguments: Sequence[str] | None, *names: str) -> dict[str, Any]:
    """Values of the flags that set the defaults, before all flags are read.

    A name with ``?`` at the end is that of a flag without a value.
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
        arguments: Words of the command line; by default those of the process.
        default: Default settings; by default those of the class.

    Raises:
        UsageError: If the arguments do not fit the class; one line.
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
    # tyro draws a box around a title, the message and explanations.
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


def parse_preset(config: Any, arguments: Sequence[str] | None, *others: str) -> Any:
    """Settings from the command line, over the defaults of the preset that it names.

    Args:
        config: A study's module of settings. Its ``FITTING`` has the data sets of each
            preset; the first preset has all of them, and is the default.
        arguments: Words of the command line; those of the process if None.
        *others: Flags that its ``preset`` takes after preset and data set, as in
            :func:`peek`.
    """
    name, dataset, *further = peek(arguments, "preset", "dataset", *others).values()
    first, datasets = next(iter(config.FITTING.items()))
    default = config.preset(first)
    # Other names are refused with everything else that is wrong.
    if (name or first) in config.FITTING and dataset in (None, *datasets):
        default = config.preset(name or first, dataset, *further)
    study = f"experiments.{config.Config.study}"
    return parse(study, config.Config, arguments, default)


@contextlib.contextmanager
def ending(name: str, interrupted: str) -> Iterator[None]:
    """Ends the process with one line on stderr if the block raises an error.

    Args:
        name: Name of the module.
        interrupted: The end of the line after Ctrl-C or SIGTERM.
    """
    try:
        with interrupts.handled():
            yield
    except BaseException as error:
        # The exception of a signal may have become another one: jaxlib raises a
        # ValueError for any exception while it compares metadata of pytrees.
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


def main(
    parse: Callable[[], Any], config: Any, train: Callable[..., Any], report: Any
) -> None:
    """Runs a study: makes missing runs, prints the table, writes the figures.

    Args:
        parse: Returns the settings of the command line.
        config: The module ``config`` of the study.
        train: The function ``train`` of the study.
        report: The module ``report`` of the study.
    """
    study = config.Config.study
    name = f"experiments.{study}"
    with ending(name, "the same command goes on from its last checkpoint."):
        chosen = parse()
        folder, results = chosen.runs / study, store.published(study)
        store.writable("--runs", folder)
        planned = config.planned(chosen)
        difference = _difference(config, planned)
        if chosen.publish:
            store.writable("--publish", results)
            if difference:
                raise ValueError(
                    f"--publish must have the settings of a preset: {difference}. Leave"
                    " --publish out, or change the preset."
                )
        store.complete(
            planned,
            train,
            chosen.runs,
            side_by_side=getattr(chosen, "side_by_side", False),
            unit=getattr(config, "UNIT", "steps"),
        )
        found = [(run, store.load(run, folder) or {}) for run in planned]
        if chosen.publish:
            for run in planned:
                run.path(results).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run.path(folder), run.path(results))
            found = [
                (run, store.load(run, results) or {})
                for run in store.with_all_seeds(planned, results)
            ]
        print("\n".join(report.table(chosen, found)))
        if difference:
            print(f"\nOther settings than those of the preset: {difference}.")
        place = results if chosen.publish else folder
        report.draw(chosen, found, place)
        seconds = sum(record["provenance"]["seconds"] or 0.0 for _, record in found)
        print(f"\n{seconds:.0f} s; written to {place}/{planned[0].group}*")


def _difference(config: Any, planned: Sequence[Run]) -> str:
    """How the first run that is in no preset differs from that of its preset."""
    declared = [run for preset in config.presets() for run in config.planned(preset)]
    places = {(run.group, run.digest) for run in declared}
    for run in planned:
        if (run.group, run.digest) in places:
            continue
        table = [each for each in declared if each.group == run.group]
        same = [each for each in table if each.method == run.method]
        usual = (same or table)[0].settings if table else {}
        words = [
            f"{flag(key)} {shown(value)}, not {shown(usual[key])}"
            for key, value in run.settings.items()
            if key in usual and usual[key] != value
        ]
        if words:
            return f"{run.method} has {'; '.join(words)}"
        return f"{run.method} is in no preset of {run.group}"
    return ""
