"""One function of the same arrays by two libraries: agreement, seconds and bytes."""

import contextlib
import importlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import _timing

# Short calls follow each other until they take so many seconds together.
_ENOUGH = 0.02


class Case(NamedTuple):
    """A scalar function of the same arrays, by both libraries.

    Attributes:
        name: Its name in sphax.
        peer: Its name in the other library.
        package: The package that has it.
        variables: Arrays that it is differentiated by, in float64.
        constants: Its other arrays.
        ours: The function, of JAX arrays: of all variables and constants.
        theirs: Makes, of PyTorch and the tensors of variables and of constants, a call
            without arguments that gives the scalar, and the tensors that it is
            differentiated by.
        has_features_first: Whether the last tensor of the variables is transposed.
        array_bytes: Size of the largest array of the other library, if it is large.
    """

    name: str
    peer: str
    package: str
    variables: tuple[np.ndarray, ...]
    constants: tuple[np.ndarray, ...]
    ours: Callable[..., jax.Array]
    theirs: Callable[..., tuple[Callable[[], Any], list[Any]]]
    has_features_first: bool = False
    array_bytes: int = 0


def import_peer(name: str, *modules: str) -> Any:
    """A package by its name in a registry, with some of its modules."""
    package = importlib.import_module(name.replace("-", "_"))
    for module in modules:
        importlib.import_module(f"{package.__name__}.{module}")
    return package


def agreement(case: Case) -> dict[str, float]:
    """Values, and the largest differences in parts of the largest values: float64."""
    torch = import_peer("torch")
    call, leaves = _theirs(torch, case, torch.float64)
    peer_value = call()
    theirs = [each.numpy() for each in torch.autograd.grad(peer_value, leaves)]
    if case.has_features_first:
        theirs[-1] = theirs[-1].T.reshape(case.variables[-1].shape)
    with jax.enable_x64(True):
        arguments = _arguments(case, jnp.float64)
        value, ours = jax.jit(_derivative(case))(*arguments)
    value, peer_value = float(value), peer_value.item()
    return {
        "value": value,
        "peer_value": peer_value,
        "value_difference": abs(value - peer_value) / abs(peer_value),
        "gradient_difference": max(
            float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())
            for a, b in zip(ours, theirs, strict=True)
        ),
    }


def compilation(case: Case, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of the first call without ``jit``, and of compiling the derivative."""
    arguments = _arguments(case, jnp.float32)
    jax.clear_caches()
    start = clock()
    jax.block_until_ready(case.ours(*arguments))
    called = clock() - start
    jax.clear_caches()
    start = clock()
    jax.jit(_derivative(case)).lower(*arguments).compile()
    return {"first_seconds": called, "compile_seconds": clock() - start}


def timing(
    case: Case,
    *,
    clock: Callable[[], float],
    repetitions: int,
    seconds: float,
    largest_bytes: float,
) -> dict[str, Any]:
    """Seconds and bytes of both libraries in float32."""
    arguments = _arguments(case, jnp.float32)
    ours = jax.jit(_derivative(case)).lower(*arguments).compile()
    value = jax.jit(case.ours).lower(*arguments).compile()
    gradients = sum(each.nbytes for each in arguments[: len(case.variables)])
    row: dict[str, Any] = {"bytes": _timing.temporary_bytes(ours) + gradients}
    calls = {
        "value_seconds": lambda: jax.block_until_ready(value(*arguments)),
        "seconds": lambda: jax.block_until_ready(ours(*arguments)),
    }
    if case.array_bytes > largest_bytes:
        row["peer_array_bytes"] = case.array_bytes
    else:
        torch = import_peer("torch")
        call, leaves = _theirs(torch, case, torch.float32)

        def without_gradient():
            with torch.no_grad():
                return call()

        def with_gradient():
            return torch.autograd.grad(call(), leaves)

        calls["peer_value_seconds"] = without_gradient
        calls["peer_seconds"] = with_gradient
        row["peer_bytes"] = _allocated(torch, with_gradient)
    return row | medians(calls, clock, repetitions, seconds)


def medians(
    calls: Mapping[str, Callable[[], Any]],
    clock: Callable[[], float],
    repetitions: int,
    seconds: float,
) -> dict[str, float]:
    """Median time of each call, in interleaved rounds; no new one after ``seconds``."""
    counts = {key: 1 + int(_ENOUGH / _time(run, clock)) for key, run in calls.items()}
    rounds, begun = [], clock()
    while len(rounds) < 3 or (len(rounds) < repetitions and clock() - begun < seconds):
        rounds.append(
            {key: _time(run, clock, counts[key]) for key, run in calls.items()}
        )
    return {key: float(np.median([each[key] for each in rounds])) for key in calls}


def _time(run: Callable[[], Any], clock: Callable[[], float], count: int = 1) -> float:
    if count > 1:
        run()  # brings its arrays back into the cache
    start = clock()
    for _ in range(count):
        run()
    return (clock() - start) / count


def _derivative(case: Case) -> Callable[..., Any]:
    return jax.value_and_grad(case.ours, tuple(range(len(case.variables))))


def _arguments(case: Case, dtype: Any) -> list[jax.Array]:
    return [
        jnp.asarray(each, dtype if each.dtype.kind == "f" else jnp.int32)
        for each in (*case.variables, *case.constants)
    ]


def _theirs(torch: Any, case: Case, dtype: Any) -> tuple[Callable[[], Any], list[Any]]:
    variables = list(case.variables)
    if case.has_features_first:
        features = variables[-1].shape[-1]
        variables[-1] = np.ascontiguousarray(variables[-1].reshape(-1, features).T)
    constants = [
        torch.tensor(each, dtype=dtype if each.dtype.kind == "f" else torch.int64)
        for each in case.constants
    ]
    leaves = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in variables]
    return case.theirs(torch, leaves, constants)


def _allocated(torch: Any, run: Callable[[], Any]) -> int:
    """Bytes that a call holds at once, by the profiler's record of allocations."""
    with tempfile.TemporaryDirectory() as folder, _without_stderr():
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            run()
        path = pathlib.Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    events = [each for each in events if each["name"] == "[memory]"]
    events.sort(key=lambda each: each["ts"])
    return int(np.cumsum([0, *(each["args"]["Bytes"] for each in events)]).max())


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drops what is written there by code that is not Python, as the profiler does."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
