"""What every command of this package does with its arguments and with what goes wrong.

A command is a module, run as ``python -m experiments.NAME``. An error that its user can
mend is one line on stderr, with exit code 2; one of the training itself has 1. Stopped
by Ctrl-C or by SIGTERM, it ends in one line as well, with 130 or 143.
"""

import ast
import contextlib
import dataclasses
import io
import pathlib
import pickle
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import tyro

from experiments import _interrupts

_Config = TypeVar("_Config")


class UsageError(ValueError):
    """Arguments that the command does not have, or that it cannot read."""


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
        raise UsageError(_first_paragraph(said.getvalue())) from None


def _first_paragraph(box: str) -> str:
    """The message in the box that tyro draws around a title and its explanations."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)  # without colors
    title, *lines = (line.strip(" │╭╮╰╯") for line in plain.splitlines())
    paragraphs = [[]]
    for line in lines:
        if line.strip("-─"):
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    message = " ".join(next(filter(None, paragraphs), [title]))
    message = message.removeprefix("Error parsing ").removeprefix("Config: ")
    return message.rstrip(".")


@contextlib.contextmanager
def ending(name: str, interrupted: str) -> Iterator[None]:
    """Ends the process in one line if something goes wrong inside.

    Args:
        name: Name of the module.
        interrupted: What the user is told after Ctrl-C or SIGTERM.
    """
    try:
        with _interrupts.handled():
            yield
    except BaseException as error:
        # What a signal raises may come out as another error: jaxlib makes a ValueError
        # of all that happens while it compares metadata of pytrees.
        if _interrupts.told or isinstance(error, KeyboardInterrupt):
            number = _interrupts.told.pop() if _interrupts.told else signal.SIGINT
            _interrupts.told.clear()
            _end(f"interrupted: {interrupted}", 128 + number)
        if isinstance(error, UsageError):
            _end(f"error: {error}; see python -m {name} --help", 2)
        if isinstance(error, OSError | ValueError | pickle.UnpicklingError):
            _end(f"error: {error}", 2)
        if isinstance(error, FloatingPointError):
            _end(f"error: {error}", 1)
        raise


def _end(line: str, code: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(code)


def main(
    name: str,
    parse: Callable[[], Any],
    train: Callable[[Any], dict[str, Any]],
    table: Callable[[dict[str, Any]], Iterable[str]],
) -> None:
    """Runs an experiment from the command line.

    Args:
        name: Name of its module.
        parse: Its settings.
        train: What writes and returns its results.
        table: Lines of a Markdown table of the results.
    """
    goes_on = "the same command goes on from its last checkpoint."
    with ending(name, goes_on):
        config = parse()
        results = train(config)
        print("\n".join(table(results)))
        print(f"\n{results['seconds']:.0f} s; written to {config.result('*')}")


@dataclasses.dataclass(frozen=True)
class _List:
    """Lists the commands, each of which has --help."""


def list_commands(package: str, main_file: str) -> None:
    """Prints the commands of a package, with the first line of what each is for.

    Args:
        package: Its name.
        main_file: Path of its ``__main__``.
    """
    with ending(package, "run the same command again."):
        parse(package, _List)
        folder = pathlib.Path(main_file).parent
        # Their texts alone: to import them takes seconds.
        paths = sorted(folder.glob("[!_]*.py")) + sorted(folder.glob("*/__init__.py"))
        for path in paths:
            name = path.parent.name if path.stem == "__init__" else path.stem
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            print(f"python -m {package}.{name:14} {text.splitlines()[0]}")
        print("\nEach has --help.")
