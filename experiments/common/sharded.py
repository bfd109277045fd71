"""The training loop for states that are split over devices, and their checkpoints.

Every process executes it. As in :mod:`.loop`, a step is a pure function of the state
and the batch, and batches are a function of the number of the step: a run that
continues from a checkpoint computes the same bits as one that was never stopped.

Checkpoints are written by orbax while the training goes on. One whose writing was
killed is ignored. They fit any number of devices: what is restored is split like the
state that it replaces.
"""

import contextlib
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import absl.logging
import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.common.distributed import watchdog
from experiments.common.events import Events
from experiments.common.runs import Work


class Intervals(NamedTuple):
    """Steps between what a training does besides steps.

    Attributes:
        log: Between metrics that are read and written.
        measure: Between measures.
        checkpoint: Between checkpoints.
    """

    log: int
    measure: int
    checkpoint: int


class Fitted(NamedTuple):
    """The result of a training.

    Attributes:
        state: State after the last step.
        losses: Loss of each step, ``[steps]``.
        measures: What was measured, with the ``"step"``, at each interval.
    """

    state: Any
    losses: np.ndarray
    measures: list[dict[str, Any]]


def fit(
    step: Callable[..., tuple[Any, dict[str, jax.Array]]],
    state: Any,
    batches: Callable[[int], Iterator[tuple[Any, ...]]],
    folder: pathlib.Path,
    work: Work,
    *,
    title: str,
    advice: str,
    steps: int,
    every: Intervals,
    measure: Callable[[Any], dict[str, Any]],
    also: Callable[[], Mapping[str, float]],
    patience: float,
) -> Fitted:
    """Trains, from the last checkpoint if there is one.

    Args:
        step: ``step(state, *batch)`` gives the next state and metrics, with ``"loss"``.
        state: The initial state.
        batches: ``batches(start)`` iterates over the batches from step ``start``.
        folder: Of the checkpoints, and of metrics for TensorBoard.
        work: Where progress is reported.
        title: Name of the training, for errors.
        advice: Last sentence of the error if the loss is not a number.
        steps: Number of steps.
        every: At which intervals the other things happen; at the end, all do.
        measure: Metrics of a state, to be kept.
        also: Further metrics to be written.
        patience: Seconds without a step after which the process is ended.

    Raises:
        FloatingPointError: If the loss is not a number; names the step.
        OSError: If the disk is full; says about how many bytes a checkpoint needs.
    """
    checkpoints = manager(folder / "checkpoints")
    losses, begun, measures = np.zeros(steps, np.float32), 0, list[Any]()
    if checkpoints.latest_step() is not None:
        begun, (state, losses), measures = restore(checkpoints, (state, losses))
    stream: Any = batches(begun)
    work.report(begun, {})
    pending: list[Any] = []
    with (
        _full_disk(folder, (state, losses)),
        contextlib.closing(checkpoints),
        contextlib.closing(stream),
        Events(folder, begun) as events,
        watchdog(patience) as feed,
    ):
        for done in range(begun + 1, steps + 1):
            state, metrics = step(state, *next(stream))
            pending.append(metrics)
            feed()
            is_due = log, measured, saved = [
                done % interval == 0 or done == steps for interval in every
            ]
            if not any(is_due):
                continue
            found = jax.tree.map(lambda *x: np.stack(x), *jax.device_get(pending))
            start, pending = done - len(pending), []
            losses[start:done] = found["loss"]
            if not np.isfinite(found["loss"]).all():
                first = start + int(np.argmin(np.isfinite(found["loss"])))
                raise FloatingPointError(
                    f"{title}: the loss is {losses[first]} in step {first}. {advice}"
                )
            if log:
                events.write(done, {**found, **also()})
            if measured:
                measures.append({"step": done, **measure(state)})
                events.write(done, measures[-1])
            if saved:
                save(checkpoints, done, (state, losses), measures)
            try:
                work.report(done - start, {"loss": found["loss"]})
            except BaseException:
                # Interrupted: do not lose the steps since the last checkpoint. It takes
                # all processes, which need not be interrupted at the same step.
                if not saved and jax.process_count() == 1:
                    save(checkpoints, done, (state, losses), measures)
                raise
    return Fitted(state, losses, measures)


@contextlib.contextmanager
def _full_disk(folder: pathlib.Path, state: Any) -> Iterator[None]:
    """Says in the error of a full disk how many bytes a checkpoint needs."""
    try:
        yield
    except ValueError as error:  # which is what orbax makes of it
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        raise OSError(
            f"the disk is full: each of two checkpoints in {folder} needs about"
            f" {needed} bytes. Free them; the same command goes on from the last one."
        ) from error


def manager(folder: pathlib.Path) -> ocp.CheckpointManager:
    """The checkpoints in a folder, of which the last two are kept.

    Close it at the end: it waits then until everything is written.
    """
    # Not what orbax does at each save, nor an error twice: it is raised as well.
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, enable_async_checkpointing=True
    )
    return ocp.CheckpointManager(folder.resolve(), options=options)


def save(manager: ocp.CheckpointManager, step: int, state: Any, history: Any) -> None:
    """Saves a pytree of arrays and some JSON; goes on before it is written.

    The arrays may be donated at once, since they have been copied.
    """
    arguments = ocp.args.Composite(
        state=ocp.args.StandardSave(_by_name(state)), history=ocp.args.JsonSave(history)
    )
    manager.save(step, args=arguments, force=True)


def restore(manager: ocp.CheckpointManager, like: Any) -> tuple[int, Any, Any]:
    """Step, pytree and JSON of the latest checkpoint.

    Args:
        manager: Of :func:`manager`; has a checkpoint.
        like: A pytree with the structure, shapes, dtypes and devices of the saved one.

    Raises:
        ValueError: If the checkpoint holds another tree.
    """
    step = manager.latest_step()
    assert step is not None
    arguments = ocp.args.Composite(
        state=ocp.args.StandardRestore(_by_name(like)), history=ocp.args.JsonRestore()
    )
    try:
        found: Any = manager.restore(step, args=arguments)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{manager.directory} has a checkpoint of another program: remove the"
            " folder, or give another one with --runs."
        ) from error
    leaves, structure = jax.tree.flatten(like)
    new = [
        jax.random.wrap_key_data(x) if _is_key(old) else x
        for x, old in zip(found.state.values(), leaves, strict=True)
    ]
    return step, jax.tree.unflatten(structure, new), found.history


def _by_name(tree: Any) -> dict[str, Any]:
    """The leaves by their paths; the nodes may be of any class."""
    found = jax.tree.leaves_with_path(tree)
    return {
        f"{number:04d}{jax.tree_util.keystr(path, simple=True, separator='.')}": (
            jax.random.key_data(leaf) if _is_key(leaf) else leaf
        )
        for number, (path, leaf) in enumerate(found)
    }


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
