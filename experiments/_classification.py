"""Markdown tables of classifications: losses, or operators, in the rows."""

from collections.abc import Iterator
from typing import Any

from experiments import _comparison, _methods, _operators, _progress, _published

_MEASURES = {"error": 2, "margin": 1, "within": 1}


def classification(results: dict[str, Any]) -> Iterator[str]:
    """Markdown table of a classification over the seeds, and its verdict."""
    return _of_operators(results) if "operators" in results else _of_methods(results)


def _of_methods(results: dict[str, Any]) -> Iterator[str]:
    published = _errors(results["config"])
    seeds = max(map(len, results["methods"].values()), default=0)
    head = ["", f"error, % ({seeds} seeds)", "margin, °", "within, °"]
    rows = [head + ["dissertation, %"] * bool(published)]
    titles: dict[Any, _methods.Method] = {**_methods.METHODS}
    errors: dict[str, list[float]] = {}
    for name, runs in results["methods"].items():
        cells = [titles[name].title]
        for key, digits in _MEASURES.items():
            cells.append(_progress.spread([run[key] for run in runs], digits))
        rows.append(cells + [published.get(name, "")] * bool(published))
        errors[titles[name].title] = [run["error"] for run in runs]
    yield from _progress.markdown(rows)
    yield from _comparison.verdict("Softmax", errors, is_error=True)


def _errors(config: dict[str, Any]) -> dict[str, str]:
    """The dissertation's error rates for the same recipe, by method."""
    rates = _published.ERRORS.get((config["preset"], config["augment"]), ())
    if config["dataset"] == "fashion_mnist":
        rates = ()
    names = map(str, _methods.METHODS)
    return {name: f"{rate:.2f}" for name, rate in zip(names, rates, strict=False)}


def _of_operators(results: dict[str, Any]) -> Iterator[str]:
    """A row for every operator, or where several losses train, for every pair."""
    config = results["config"]
    key = config["preset"], config["dataset"]
    official = _published.ACCURACIES.get(key, {})
    head = ["", f"accuracy, % ({config['seeds']} seeds)"]
    rows = [head + ["official, final", "official, best"] * bool(official)]
    titles: dict[Any, _methods.Method] = {**_methods.METHODS}
    compared: dict[str, list[float]] = {}
    for operator, methods in results["operators"].items():
        found = [f"{value:.2f}" for value in official.get(operator, ())] or ["", ""]
        for name, runs in methods.items():
            title = _operators.operator(operator).title
            title += f"; {titles[name].title}" * (len(methods) > 1)
            compared[title] = accuracies = [100.0 - run["error"] for run in runs]
            cells = [title, _progress.spread(accuracies, 2)]
            rows.append(cells + found * bool(official))
    yield from _progress.markdown(rows)
    plain = _operators.operator("plain").title
    base = next((title for title in compared if title.startswith(plain)), "")
    yield from _comparison.verdict(base, compared, is_error=False)
