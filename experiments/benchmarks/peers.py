"""Objectives, metrics, orthogonal maps and adapters beside those of other libraries.

    pip install 'sphax[peers]'
    python -m experiments.benchmarks.peers

Both libraries get the same arrays and as many cores, by default one, in interleaved
rounds. Values and gradients are compared in float64. Times are in float32: of sphax
under ``jax.jit``, and of PyTorch operation by operation, as its users run it. Memory is
what a library allocates at once beside the arguments, by the plan of XLA and by the
profiler of PyTorch; for metrics, it is the growth of the process. Rows of libraries
that are missing are left out, with a line that says so.
"""

import importlib.metadata
import os
import pathlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from experiments.benchmarks import (
    _figures,
    _peer_adapters,
    _peer_differences,
    _peer_maps,
    _peer_metrics,
    _peer_objectives,
    _timing,
)
from experiments.benchmarks._peer_case import (
    Case,
    agreement,
    compilation,
    import_peer,
    timing,
)
from experiments.common import progress

# By the names of their registry; all of torch's need torch.
PEERS = ("torch", "pytorch-metric-learning", "geotorch", "peft", "scikit-learn")


@dataclass(frozen=True)
class Config(_figures.Config):
    """Sizes and repetitions of the benchmark."""

    output: pathlib.Path | None = pathlib.Path("runs/benchmarks/peers.json")
    rows: tuple[int, ...] = (256, 1024)
    """Numbers of embeddings for the objectives, one table each; values, gradients and
    compiling are compared at the first."""
    features: int = 512
    """Width of the embeddings."""
    per_class: int = 4
    """Embeddings of every class in the batch."""
    classes: int = 1000
    """Classes of the objectives that have weights for each, at least."""
    sizes: tuple[int, ...] = (256, 512)
    """Rows and columns of the orthogonal maps, one table each."""
    pairs: int = 1_000_000
    """Scores for the metrics of verification."""
    searched: int = 5_000
    """Embeddings for the metrics of retrieval."""
    repetitions: int = 7
    """Rounds, in each of which both libraries run; medians are reported."""
    seconds: float = 1.0
    """No further round of a row after so many seconds, but three at least."""
    largest: float = 4.0
    """GiB that one array of another library may have; a larger one is not made."""
    cores: int = 1
    """Cores for each library. On one, times are those of the CPU, which other programs
    change little; on several, those of the clock."""


def measure(config: Config) -> dict[str, Any]:
    """Measures all rows whose packages are installed."""
    versions = installed()
    if hasattr(os, "sched_setaffinity"):  # on Linux
        cores = sorted(os.sched_getaffinity(0))[-config.cores :]
        os.sched_setaffinity(0, cores)
    if versions["torch"]:
        import_peer("torch").set_num_threads(config.cores)
    jax.config.update("jax_enable_compilation_cache", False)
    objectives = [
        _peer_objectives.cases(n, config.features, config.per_class, config.classes)
        for n in config.rows
    ]
    maps = [_peer_maps.cases(n) for n in config.sizes]
    return {
        "peers": versions,
        "objectives": [
            {"rows": n, **_cases(config, cases, versions, is_compared=i == 0)}
            for i, (n, cases) in enumerate(zip(config.rows, objectives, strict=True))
        ],
        "metrics": _metrics(config, versions),
        "maps": [
            {"n": n, **_cases(config, cases, versions, is_compared=i == 0)}
            for i, (n, cases) in enumerate(zip(config.sizes, maps, strict=True))
        ],
        "adapters": [
            _peer_adapters.measure(each)
            for each in _peer_adapters.EXCHANGES
            if _has(versions, "peft")
        ],
        "differences": [
            _peer_differences.measure(each)
            for each in _peer_differences.DIFFERENCES
            if _has(versions, each.package)
        ],
    }


def installed() -> dict[str, str | None]:
    """Versions of the other libraries, ``None`` for those that are missing.

    Raises:
        ValueError: If all of them are.
    """
    versions = {name: _version(name) for name in PEERS}
    if not any(versions.values()):
        raise ValueError(
            f"there is no other library to compare with: of {', '.join(PEERS)}, at"
            " least one must be installed, all by pip install 'sphax[peers]'."
        )
    return versions


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _has(versions: dict[str, str | None], package: str) -> bool:
    """Whether a package is installed, and PyTorch if it needs it."""
    needs_torch = package != "scikit-learn"
    return bool(versions[package] and (versions["torch"] or not needs_torch))


def _cases(
    config: Config,
    cases: list[Case],
    versions: dict[str, str | None],
    *,
    is_compared: bool,
) -> dict[str, Any]:
    """Rows of the cases, with what does not depend on the size if ``is_compared``."""
    rows = []
    chosen = [case for case in cases if _has(versions, case.package)]
    before = _timing.probe()
    for case in progress.each(chosen, "rows"):
        with warnings.catch_warnings():
            # PEFT warns that it cannot compile its CUDA extension.
            warnings.simplefilter("ignore", UserWarning)
            row: dict[str, Any] = {"name": case.name, "peer": case.peer}
            if is_compared:
                row |= agreement(case) | compilation(case, _clock(config))
            row |= timing(
                case,
                clock=_clock(config),
                repetitions=config.repetitions,
                seconds=config.seconds,
                largest_bytes=config.largest * 2**30,
            )
            rows.append(row)
    return {"quietness": _timing.quietness(before, _timing.probe()), "cases": rows}


def _metrics(config: Config, versions: dict[str, str | None]) -> dict[str, Any]:
    metrics = _peer_metrics.metrics(config.pairs, config.searched, config.features)
    chosen = [metric for metric in metrics if _has(versions, metric.package)]
    before = _timing.probe()
    rows = [
        {
            "name": metric.name,
            "peer": metric.peer,
            **_peer_metrics.measure(
                metric,
                clock=_clock(config),
                repetitions=config.repetitions,
                seconds=config.seconds,
            ),
        }
        for metric in progress.each(chosen, "metrics")
    ]
    return {"quietness": _timing.quietness(before, _timing.probe()), "rows": rows}


def _clock(config: Config) -> Callable[[], float]:
    return time.process_time if config.cores == 1 else time.perf_counter


def tables(figures: dict[str, Any]) -> Iterator[str]:
    """Markdown tables of the figures."""
    config = figures["config"]
    for size in figures["objectives"]:
        title = f"{size['rows']:,} embeddings of {config['features']} features"
        yield from _table(title, size)
    for size in figures["maps"]:
        yield from _table(f"{size['n']} x {size['n']}", size)
    yield from _table_of_metrics(config, figures["metrics"])
    yield from _table_of_adapters(figures.get("adapters", []))
    yield from _table_of_differences(figures["differences"])
    packages = {**figures["peers"], "jaxlib": figures["versions"]["jaxlib"]}
    there = ", ".join(f"{name} {found}" for name, found in packages.items() if found)
    clock = "seconds of the CPU" if config["cores"] == 1 else "seconds of the clock"
    cores = "one core" if config["cores"] == 1 else f"{config['cores']} cores"
    yield f"Each library has {cores}; {clock}; {there}."
    missing = [name for name, found in figures["peers"].items() if not found]
    if missing:
        yield (
            f"Rows that need {' or '.join(missing)} are missing: pip install"
            " 'sphax[peers]'."
        )
    yield ""


def _table(title: str, size: dict[str, Any]) -> Iterator[str]:
    """What the libraries agree on, at the first size, and what it costs them."""
    cases = size["cases"]
    if not cases:
        return
    if "first_seconds" in cases[0]:
        yield (
            f"| {title} | other library | difference of values | of gradients"
            " | first call, s | compiling, s |"
        )
        yield "|---|---|---|---|---|---|"
        for row in cases:
            yield (
                f"| {row['name']} | {row['peer']} | {row['value_difference']:.0e}"
                f" | {row['gradient_difference']:.0e} | {row['first_seconds']:.1f}"
                f" | {row['compile_seconds']:.1f} |"
            )
        yield ""
    yield (
        f"| {title} | value, ms | other | ratio | with gradient, ms | other | ratio"
        " | MiB | other |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in cases:
        mebibytes = f"{row['bytes'] / 2**20:.1f}"
        if "peer_seconds" not in row:
            yield (
                f"| {row['name']} | {row['value_seconds'] * 1e3:.2f} | | "
                f"| {row['seconds'] * 1e3:.2f} | | | {mebibytes}"
                f" | {row['peer_array_bytes'] / 2**20:,.0f} in one array |"
            )
            continue
        yield (
            f"| {row['name']} | {_times(row, 'value_seconds')}"
            f" | {_times(row, 'seconds')} | {mebibytes}"
            f" | {row['peer_bytes'] / 2**20:.1f} |"
        )
    yield ""
    yield _summary(cases)
    yield from _figures.end_of_table(size["quietness"])


def _times(row: dict[str, Any], name: str) -> str:
    ours, theirs = row[name], row[f"peer_{name}"]
    return f"{ours * 1e3:.2f} | {theirs * 1e3:.2f} | {theirs / ours:.1f}"


def _summary(cases: list[dict[str, Any]]) -> str:
    """Medians of the ratios, and the least one."""
    cases = [row for row in cases if "peer_seconds" in row and row["peer"] != "matmul"]
    found = []
    for name in ("value_seconds", "seconds"):
        ratios = {row["name"]: row[f"peer_{name}"] / row[name] for row in cases}
        least = min(ratios, key=ratios.__getitem__)
        median = statistics.median(ratios.values())
        found.append(f"{median:.1f} in the median, {ratios[least]:.2f} for {least}")
    return f"Ratios of values: {found[0]}. Ratios with gradients: {found[1]}."


def _table_of_metrics(config: dict[str, Any], size: dict[str, Any]) -> Iterator[str]:
    if not size["rows"]:
        return
    yield (
        f"| {config['pairs']:,} pairs; {config['searched']:,} embeddings"
        " | other library | value | other | s | other | ratio | MiB | other |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in size["rows"]:
        ours, theirs = row["seconds"], row["peer_seconds"]
        memory = [
            "" if found is None else f"{found / 2**20:.0f}"
            for found in (row["bytes"], row["peer_bytes"])
        ]
        yield (
            f"| {row['name']} | {row['peer']} | {row['value']:.6f}"
            f" | {row['peer_value']:.6f} | {ours:.3f} | {theirs:.3f}"
            f" | {theirs / ours:.1f} | {memory[0]} | {memory[1]} |"
        )
    yield from _figures.end_of_table(size["quietness"])


def _table_of_adapters(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "| adapters of PEFT | change of outputs | read by sphax | written by sphax |"
    yield "|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['name']} | {row['moved']:.2f} | {row['reading']:.0e}"
            f" | {row['writing']:.0e} |"
        )
    yield ""


def _table_of_differences(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "| not the same | other library | other | sphax | definition in float64 |"
    yield "|---|---|---|---|---|"
    for row in rows:
        numbers = (row["peer_value"], row["value"], row["definition"])
        shown = " | ".join(f"{number:.6g}" for number in numbers)
        yield f"| {row['name']} | {row['peer']} | {shown} |"
    yield ""


def main() -> None:
    """Runs from the command line."""
    _figures.main("peers", Config, measure, tables)


if __name__ == "__main__":
    main()
