"""The training loop of all studies: seeds side by side, and checkpoints.

A step is a pure function of the state and the batch; batches and random numbers are
functions of the seed and the number of the step. So a run that continues from a
checkpoint computes the same bits as one that was never stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import checkpoints
from experiments.common.runs import Work

# Metrics of so many steps are read together, so that the device does not wait.
_QUEUED = 20


class Fitted(NamedTuple):
    """The result of one seed.

    Attributes:
        state: State after the last step.
        losses: Loss of each step, ``[steps]``.
        records: Stacked results of ``record``, ``[records, ...]``, or ``None``.
    """

    state: Any
    losses: np.ndarray
    records: Any


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _step_one(step, setting, shared, state, batch, count, seed):
    return step(setting, shared, state, batch, count, seed)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _step_all(step, setting, shared, state, batch, count, seeds):
    def one(state, batch, seed):
        return step(setting, shared, state, batch, count, seed)

    return jax.vmap(one)(state, batch, seeds)


def fit(
    step: Callable[..., tuple[Any, dict[str, jax.Array]]],
    setting: Any,
    states: Sequence[Any],
    batches: Callable[[int, int], Iterator[Any]],
    work: Work,
    *,
    title: str,
    advice: str,
    seeds: Sequence[int],
    steps: int,
    checkpoint_every: int,
    shared: Any = None,
    before: Callable[[Any, Any, int], tuple[Any, Any]] | None = None,
    record: Callable[[Any, int], Any] | None = None,
    record_every: int = 1,
) -> list[Fitted]:
    """Trains the seeds, in one vmapped step if there are several.

    Args:
        step: ``step(setting, shared, state, batch, count, seed)`` gives the next state
            and metrics, including ``"loss"``. A function of a module; it is compiled
            once for each ``setting``.
        setting: Static, hashable argument of the step.
        states: The initial state of each seed.
        batches: ``batches(seed, start)`` iterates over the batches from step ``start``.
        work: Folder of the checkpoints, and where progress is reported.
        title: Name of the method, for errors.
        advice: Last sentence of the error if the loss is not a number.
        seeds: One seed, or several for one vmapped step.
        steps: Number of steps.
        checkpoint_every: Steps between checkpoints.
        shared: Arrays that are the same for all seeds.
        before: ``before(state, batch, count)`` gives the state and the batch of a step;
            not compiled.
        record: ``record(state, done)`` measures the state of one seed after ``done``
            steps: at 0, at every multiple of ``record_every``, and at the end.
        record_every: Steps between records.

    Raises:
        FloatingPointError: If the loss is not a number; names the step.
    """
    several = len(seeds) > 1
    state: Any = (
        jax.tree.map(lambda *x: jnp.stack(x), *states) if several else states[0]
    )
    seed: Any = np.array(seeds) if several else seeds[0]

    def unstack(state):
        if not several:
            return [state]
        return [
            jax.tree.map(lambda leaf, i=i: leaf[i], state) for i in range(len(seeds))
        ]

    losses, records = np.zeros((len(seeds), steps), np.float32), None
    places = [*range(0, steps, record_every), steps] if record else []

    def measure(done):
        assert record is not None
        found = [jax.tree.map(np.asarray, record(s, done)) for s in unstack(state)]
        return jax.tree.map(lambda *values: np.stack(values), *found)

    if record:
        records = jax.tree.map(
            lambda x: np.repeat(x[:, None], len(places), axis=1), measure(0)
        )
    first = state, losses, records
    begun, (state, losses, records) = checkpoints.restore(work.folder, first) or (
        0,
        first,
    )
    # Restored arrays are read-only.
    losses, records = jax.tree.map(np.array, (losses, records))
    work.report(begun, {})
    run = _step_all if several else _step_one
    streams = [batches(number, begun) for number in seeds]
    pending: list[dict[str, jax.Array]] = []
    for count in range(begun, steps):
        parts = [next(stream) for stream in streams]
        batch = jax.tree.map(lambda *x: np.stack(x), *parts) if several else parts[0]
        if before is not None:
            state, batch = before(state, batch, count)
        state, metrics = run(step, setting, shared, state, batch, count, seed)
        pending.append(metrics)
        done = count + 1
        is_recorded = done in places
        is_saved = done % checkpoint_every == 0 or done == steps
        if not (is_saved or is_recorded or len(pending) == _QUEUED):
            continue
        found = jax.tree.map(lambda *x: np.stack(x), *pending)
        start, pending = done - len(pending), []
        losses[:, start:done] = found["loss"].reshape(done - start, -1).T
        if not np.isfinite(losses[:, start:done]).all():
            row, column = np.argwhere(~np.isfinite(losses[:, start:done].T))[0]
            raise FloatingPointError(
                f"{title}, seed {seeds[column]}: the loss is"
                f" {losses[column, start + row]} in step {start + row}. {advice}"
            )
        if is_recorded:
            for kept, new in zip(
                jax.tree.leaves(records), jax.tree.leaves(measure(done)), strict=True
            ):
                kept[:, places.index(done)] = new
        if is_saved:
            checkpoints.save(work.folder, done, (state, losses, records))
        try:
            work.report(done - start, found)
        except BaseException:
            # Interrupted: do not lose the steps since the last checkpoint.
            if not is_saved:
                checkpoints.save(work.folder, done, (state, losses, records))
            raise
    states = unstack(state)
    return [
        Fitted(each, losses[i], jax.tree.map(lambda x, i=i: x[i], records))
        for i, each in enumerate(states)
    ]
