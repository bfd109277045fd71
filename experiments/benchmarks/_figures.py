"""The command line of the benchmarks: figures are printed and written to a file."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from experiments.benchmarks import _timing
from experiments.common import checkpoints, cli, store
from experiments.common.runs import check_numbers, flag, shown

RESULTS = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that every benchmark has."""

    output: pathlib.Path | None = None
    """File to write the figures to; "None" writes none."""
    publish: bool = False
    """Write the figures to the committed experiments/benchmarks/results instead, under
    the name of the file. Figures that are there with other settings are not
    overwritten: remove them first. Those of a busy machine are not published."""

    # Settings that may be zero, which leaves something out.
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        check_numbers(self, may_be_zero=self.may_be_zero)
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
        measure: ``measure(config)`` gives the figures, by name.
        tables: ``tables(figures)`` gives their lines of Markdown.
    """
    module = f"experiments.benchmarks.{name}"
    with cli.ending(module, "nothing was kept; the same command starts anew."):
        chosen = cli.parse(module, config)
        path = _place(chosen)
        started = time.perf_counter()
        figures = {
            "config": settings(chosen),
            **measure(chosen),
            **store.environment(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        print("\n".join(tables(figures)))
        if path is not None:
            _keep(figures, path, chosen.publish)


def _place(config: Config) -> pathlib.Path | None:
    """The file for the figures, before anything is timed.

    Raises:
        ValueError: If it cannot be written, or has published figures of other settings.
    """
    if config.output is None:
        return None
    folder = RESULTS if config.publish else config.output.parent
    path = folder / config.output.name
    if path.is_dir():
        raise ValueError(f"--output must be a file, got the folder {path}.")
    store.writable("--publish" if config.publish else "--output", folder)
    _refuse_other_settings(path, config)
    return path


def settings(config: Config) -> dict[str, Any]:
    """All settings except those of the file."""
    found = dataclasses.asdict(config)
    return {name: x for name, x in found.items() if name not in ("output", "publish")}


def _refuse_other_settings(path: pathlib.Path, config: Config) -> None:
    if path.parent.resolve() != RESULTS.resolve() or not path.exists():
        return
    published = json.loads(path.read_text())["config"]
    # As JSON has them, where a tuple is a list.
    given, usual = json.loads(json.dumps([settings(config), settings(type(config)())]))
    differences = [
        f"{flag(name)} {shown(published.get(name))}, not {shown(value)}"
        for name, value in given.items()
        if value != published.get(name, usual[name])
    ]
    if differences:
        raise ValueError(
            f"--publish must not replace {path.name} by figures of other settings: it"
            f" has {'; '.join(differences)}. Remove that file first, or leave --publish"
            " out."
        )


def _keep(figures: dict[str, Any], path: pathlib.Path, publish: bool) -> None:
    found = max(_all_quietness(figures), default=1.0)
    if found >= _timing.QUIET and publish:
        raise ValueError(
            f"--publish must have figures of a quiet machine: here a probe took"
            f" {found:.2f} times its fastest time, {_timing.QUIET} at most. Run again."
        )
    if found >= _timing.QUIET:
        print(f"Run again on a quiet machine before these are published ({found:.2f}).")
    checkpoints.write(path, (json.dumps(figures, indent=1) + "\n").encode())
    print(f"{figures['seconds']:.0f} s; written to {path}")


def _all_quietness(figures: Any) -> Iterator[float]:
    """All values of ``quietness`` in the figures, at any depth."""
    if isinstance(figures, Mapping):
        if figures.get("quietness") is not None:
            yield figures["quietness"]
        figures = list(figures.values())
    if isinstance(figures, list):
        for each in figures:
            yield from _all_quietness(each)


def end_of_table(quietness: float | None) -> Iterator[str]:
    """The lines after a table: an empty one, and a warning if the machine was busy."""
    yield ""
    if quietness is not None and quietness >= _timing.QUIET:
        yield (
            "Other programs ran on this machine meanwhile: a probe took"
            f" {quietness:.2f} times its fastest time. Candidates run in interleaved"
            " rounds, so ratios suffer less than times; ratios that differ by less than"
            " this factor cannot be distinguished."
        )
        yield ""
