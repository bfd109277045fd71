"""Checkpoints that survive being killed at any moment.

A file is the SHA-256 of its content followed by the content, written beside its place
and moved into it: a reader finds it whole, or knows that it is not. The last two are
kept, so that behind a damaged file there is the one before.
"""

import hashlib
import json
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import serialization

_KEPT = 2


def save(folder: pathlib.Path, step: int, tree: Any) -> None:
    """Writes a pytree of arrays as the newest checkpoint, and drops the oldest."""
    leaves = enumerate(jax.tree.leaves(tree))
    content = serialization.msgpack_serialize(
        {str(index): np.asarray(leaf) for index, leaf in leaves}
    )
    write(folder / f"{step:09d}.ckpt", hashlib.sha256(content).digest() + content)
    for old in _newest_first(folder)[_KEPT:]:
        old.unlink()


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def remembered(path: pathlib.Path, compute: Callable[[], Any]) -> tuple[Any, bool]:
    """What a JSON file holds; if there is none yet, what ``compute`` gives.

    Returns:
        The content, which is in the file now, and whether it was computed for that.
    """
    try:
        return json.loads(path.read_text()), False
    except FileNotFoundError:
        pass
    except ValueError:
        warnings.warn(f"{path} is damaged; computing it anew.", stacklevel=2)
    content = compute()
    write(path, json.dumps(content).encode())
    return content, True


def restore(folder: pathlib.Path, like: Any) -> tuple[int, Any] | None:
    """Step and tree of the newest checkpoint that is whole, or ``None``.

    Args:
        folder: Where :func:`save` wrote.
        like: A tree of the structure, shapes and dtypes that were saved.

    Raises:
        ValueError: If a checkpoint is whole, and of another tree.
    """
    for path in _newest_first(folder):
        tree = _read(path, like)
        if tree is not None:
            return int(path.stem), tree
        warnings.warn(f"{path} is damaged; trying the one before.", stacklevel=2)
    return None


def clear(folder: pathlib.Path) -> None:
    """Removes all checkpoints of a folder."""
    shutil.rmtree(folder, ignore_errors=True)


def _newest_first(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.glob("*.ckpt"), reverse=True)


def _read(path: pathlib.Path, like: Any) -> Any:
    whole = path.read_bytes()
    digest, content = whole[:32], whole[32:]
    if hashlib.sha256(content).digest() != digest:
        return None
    saved: Any = serialization.msgpack_restore(content)
    leaves, structure = jax.tree.flatten(like)
    restored = [saved.get(str(index)) for index in range(len(leaves))]
    if len(saved) != len(leaves) or any(map(_differs, restored, leaves)):
        raise ValueError(
            f"{path} is the checkpoint of another program: remove {path.parent}, or"
            " give another folder with --checkpoints."
        )
    return jax.tree.unflatten(structure, restored)


def _differs(saved: Any, leaf: Any) -> bool:
    found, expected = np.asarray(saved), np.asarray(leaf)
    return (found.shape, found.dtype) != (expected.shape, expected.dtype)
