"""Files of arrays: safetensors, and npz of NumPy."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

FilePath = str | os.PathLike[str]
Tensors = Mapping[str, Any]

_PICKLES = (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".tar")


def read(path: FilePath) -> dict[str, np.ndarray]:
    """All arrays of a file by name.

    Args:
        path: A file ``.safetensors``, for which ``pip install 'sphax[convert]'``, or
            ``.npz``, for which NumPy is enough.

    Returns:
        The arrays, in the dtypes of the file.

    Raises:
        ImportError: If the file needs safetensors, which is not installed.
        ValueError: If it is a pickle of PyTorch, such as ``.pth``, which may run any
            code when it is opened; the error has the lines that turn it into
            safetensors. Also for any other ending.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/head.npz"
        >>> sx.convert.write(path, {"weight": np.ones((3, 2))})
        >>> sx.convert.read(path)["weight"].shape
        (3, 2)
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    _check_suffix(path)
    return _safetensors().load_file(path)


def write(path: FilePath, tensors: Tensors) -> None:
    """Writes arrays by name into a file, which PyTorch can load.

    After ``write("backbone.safetensors", to_insightface(network))``, in PyTorch:
    ``network.load_state_dict(safetensors.torch.load_file("backbone.safetensors"))``.

    Args:
        path: A file ``.safetensors`` or ``.npz``, as in :func:`read`.
        tensors: Arrays by name.

    Raises:
        ImportError: If the file needs safetensors, which is not installed.
        ValueError: If the ending is another one.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/head.npz"
        >>> head = sx.layers.MarginHead(
        ...     2, 3, margin=sx.margins.ArcFace(), rngs=nnx.Rngs(0)
        ... )
        >>> sx.convert.write(path, sx.convert.to_insightface(head))
    """
    path = Path(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
        return
    _check_suffix(path)
    _safetensors().save_file(arrays, path)


def arrays_of(source: FilePath | Tensors, *parts: str) -> dict[str, np.ndarray]:
    """The arrays of one part of a checkpoint, by their names in PyTorch's module.

    Args:
        source: A file, or arrays by name.
        parts: Prefixes that the part may have in a file of several parts.
    """
    if not isinstance(source, Mapping):
        source = read(source)
    found = _without("module", source)
    for part in parts:
        if any(name.startswith(f"{part}.") for name in found):
            found = {k: x for k, x in found.items() if k.startswith(f"{part}.")}
            # The part may have been wrapped by itself.
            found = _without("module", _without(part, found))
            break
    arrays = {}
    for name, value in found.items():
        # The count of batches is of no use where the momentum is fixed.
        if name.endswith("num_batches_tracked"):
            continue
        array = np.asarray(value)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"tensors must be floating, got {array.dtype} for {name}; a checkpoint"
                " of several parts has to be flat, with the names of PyTorch's"
                " state_dict."
            )
        arrays[name] = array
    return arrays


def _without(prefix: str, tensors: Tensors) -> dict[str, Any]:
    """With the prefix taken off, if all have it."""
    if not all(name.startswith(f"{prefix}.") for name in tensors):
        return dict(tensors)
    return {name.removeprefix(f"{prefix}."): x for name, x in tensors.items()}


def _check_suffix(path: Path) -> None:
    if path.suffix in _PICKLES:
        new = path.with_suffix(".safetensors").name
        raise ValueError(
            f"path must be a file .safetensors or .npz, got {path.name}, a pickle,"
            " which may run any code when it is opened. In Python with torch:\n"
            "    import torch, safetensors.torch\n"
            f'    state = torch.load("{path.name}", "cpu", weights_only=True)\n'
            f'    safetensors.torch.save_file(state, "{new}")\n'
            "Where the parts of a checkpoint are dictionaries, save the one that is"
            ' wanted, such as state["state_dict"] or state["backbone"].'
        )
    if path.suffix != ".safetensors":
        raise ValueError(f"path must be a file .safetensors or .npz, got {path.name}.")


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "sphax.convert reads and writes .safetensors by safetensors, which is not"
            " installed: pip install 'sphax[convert]'. For .npz nothing is needed."
        ) from error
    return safetensors.numpy
