"""What a benchmark does with what it has measured: it shows it, and keeps it."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from experiments import _checkpoints, _command_line, _numbers, _results
from experiments._provenance import provenance
from experiments.benchmarks import _timing


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that every benchmark has."""

    output: pathlib.Path | None = None
    """File to write the figures to; "None" writes none."""
    publish: bool = False
    """Write the figures to the committed experiments/results instead, under the name of
    the file. Figures that are there with other settings are not overwritten: remove
    them first. Those of a machine that was not quiet are not published."""

    # Settings that zero leaves out.
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        _numbers.check(self, may_be_zero=self.may_be_zero)
        if self.publish and self.output is None:
            raise ValueError("--publish must have the name of a file in --output.")


_AnyConfig = TypeVar("_AnyConfig", bound=Config)


def main(
    name: str,
    config: type[_AnyConfig],
    measure: Callable[[_AnyConfig], Mapping[str, Any]],
    tables: Callable[[dict[str, Any]], Iterable[str]],
) -> None:
    """Runs a benchmark from the command line: measures, prints tables, writes a file.

    Args:
        name: Name of its module.
        config: Class of its settings.
        measure: What is measured, by name.
        tables: Markdown of the figures.
    """
    module = f"experiments.benchmarks.{name}"
    with _command_line.ending(
        module, "nothing was kept; the same command starts anew."
    ):
        chosen = _command_line.parse(module, config)
        path = _place(chosen)
        started = time.perf_counter()
        figures = {
            "config": _results.settings(chosen),
            **measure(chosen),
            **provenance(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        print("\n".join(tables(figures)))
        if path is not None:
            _keep(figures, path, chosen.publish)


def _place(config: Config) -> pathlib.Path | None:
    """Where the figures go, if they can go there.

    Raises:
        ValueError: If they cannot.
    """
    if config.output is None:
        return None
    folder = _results.PUBLISHED if config.publish else config.output.parent
    path = folder / config.output.name
    if path.is_dir():
        raise ValueError(f"--output must be a file, got the folder {path}.")
    _results.writable("--publish" if config.publish else "--output", folder)
    _results.refuse_other_settings(path, config)
    return path


def _keep(figures: dict[str, Any], path: pathlib.Path, publish: bool) -> None:
    found = max(_all_quietness(figures), default=1.0)
    if found >= _timing.QUIET and publish:
        raise ValueError(
            f"--publish must have figures of a quiet machine: here a probe took"
            f" {found:.2f} times its fastest time, {_timing.QUIET} at most. Run again."
        )
    if found >= _timing.QUIET:
        print(f"Run again on a quiet machine before these are published ({found:.2f}).")
    _checkpoints.write(path, (json.dumps(figures, indent=1) + "\n").encode())
    print(f"{figures['seconds']:.0f} s; written to {path}")


def _all_quietness(figures: Any) -> Iterator[float]:
    """All measures of quietness, wherever they are."""
    if isinstance(figures, Mapping):
        if figures.get("quietness") is not None:
            yield figures["quietness"]
        figures = list(figures.values())
    if isinstance(figures, list):
        for each in figures:
            yield from _all_quietness(each)


def end_of_table(quietness: float | None) -> Iterator[str]:
    """What follows a table: an empty line, and what to think of its figures."""
    yield ""
    if quietness is not None and quietness >= _timing.QUIET:
        yield (
            "Other programs ran on this machine meanwhile: a probe took"
            f" {quietness:.2f} times its fastest time. Candidates take turns, so that"
            " ratios suffer less than times, but those that differ by less than this"
            " factor are not told apart."
        )
        yield ""
