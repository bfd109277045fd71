"""Files that survive being killed at any moment: checkpoints of pytrees, and JSON.

A checkpoint file has the SHA-256 of its content before the content. It is written under
another name and then renamed, so a reader either finds all of it or detects the damage.
The last two checkpoints are kept, so that there is one if the other is damaged.
"""

import hashlib
import os
import pathlib
import warnings
from typing import Any

import jax
import numpy as np
from flax import serialization

_KEPT = 2


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file completely or, if the process is killed, not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def save(folder: pathlib.Path, step: int, tree: Any) -> None:
    """Writes a pytree of arrays as the newest checkpoint, and removes the oldest."""
    leaves = enumerate(jax.tree.leaves(tree))
    content = serialization.msgpack_serialize(
        {str(index): np.asarray(leaf) for index, leaf in leaves}
    )
    write(folder / f"{step:09d}.ckpt", hashlib.sha256(content).digest() + content)
    for old in sorted(folder.glob("*.ckpt"))[:-_KEPT]:
        old.unlink()


def restore(folder: pathlib.Path, like: Any) -> tuple[int, Any] | None:
    """Step and tree of the newest undamaged checkpoint, or ``None``.

    Args:
        folder: The folder of :func:`save`.
        like: A tree with the structure, shapes and dtypes of the saved one.

    Raises:
        ValueError: If an undamaged checkpoint holds another tree.
    """
    leaves, structure = jax.tree.flatten(like)
    expected = [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in leaves]
    for path in sorted(folder.glob("*.ckpt"), reverse=True):
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            warnings.warn(f"{path} is damaged; trying the one before.", stacklevel=2)
            continue
        saved: Any = serialization.msgpack_restore(content[32:])
        found = [saved[str(index)] for index in range(len(saved))]
        if [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in found] != expected:
            raise ValueError(
                f"{path} is the checkpoint of another program: remove {path.parent}, or"
                " give another folder with --runs."
            )
        return int(path.stem), jax.tree.unflatten(structure, found)
    return None
