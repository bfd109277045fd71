"""Checkpoints of states that are split over devices, and of several processes.

They are written by orbax while the training goes on. A checkpoint whose writing was
killed is ignored. It fits any number of devices: what is restored is split like the
state that it replaces.
"""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp


def manager(folder: pathlib.Path) -> ocp.CheckpointManager:
    """The checkpoints in a folder, of which the last two are kept.

    Close it at the end: it waits then until everything is written.
    """
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
