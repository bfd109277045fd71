"""What a benchmark does with what it has measured: it shows it, and keeps it."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from experiments import _checkpoints
from experiments._provenance import provenance
from experiments.benchmarks import _timing


def publish(
    config: Any,
    measure: Callable[[], Mapping[str, Any]],
    tables: Callable[[dict[str, Any]], Iterable[str]],
) -> dict[str, Any]:
    """Measures, prints the tables, writes ``config.output`` and returns the figures.

    Args:
        config: A dataclass; its ``output`` is a file, or None.
        measure: What is measured, by name.
        tables: Markdown of the figures.
    """
    started = time.perf_counter()
    figures = {
        "config": asdict(config) | {"output": None},
        **measure(),
        **provenance(),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print("\n".join(tables(figures)))
    if config.output:
        text = json.dumps(figures, indent=1) + "\n"
        _checkpoints.write(config.output, text.encode())
    return figures


def end_of_table(quietness: float | None) -> Iterator[str]:
    """What follows a table: an empty line, and what to think of its figures."""
    yield ""
    if quietness is not None and quietness >= _timing.QUIET:
        yield "The machine was not quiet: run again."
        yield ""
