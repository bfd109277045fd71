"""What a person sees of an experiment: its progress, its table, what went wrong."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

Report = Callable[[int, dict[str, np.ndarray]], None]


def steps_on(bar: tqdm, runs: int = 1) -> Report:
    """What training tells its steps and metrics to, of ``runs`` runs side by side."""

    def report(steps: int, metrics: dict[str, np.ndarray]) -> None:
        if metrics:
            means = {key: f"{np.mean(values):.3f}" for key, values in metrics.items()}
            bar.set_postfix(means, refresh=False)
        bar.update(steps * runs)

    return report


def main(
    parse: Callable[[], Any],
    train: Callable[[Any], dict[str, Any]],
    table: Callable[[dict[str, Any]], Iterable[str]],
) -> None:
    """Runs an experiment from the command line, with errors that a person can read."""
    try:
        config = parse()
        results = train(config)
    except (FileNotFoundError, FloatingPointError, ValueError) as error:
        sys.exit(f"error: {error}")
    print("\n".join(table(results)))
    print(f"\n{results['seconds']:.0f} s; written to {config.result('*')}")


def markdown(rows: list[list[str]]) -> Iterator[str]:
    """A Markdown table of cells, the first row being its head."""
    for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]:
        yield f"| {' | '.join(row)} |"


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation over the seeds; one value as it is."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
