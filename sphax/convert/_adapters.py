"""Folders of PEFT, with the arrays of adapters and their configuration."""

import json
from collections.abc import Mapping
from pathlib import Path

from jax.typing import ArrayLike

from sphax.convert._files import FilePath, read, write
from sphax.reparam import (
    BlockRotation,
    ButterflyRotation,
    Reflections,
    SubspaceRotation,
    from_peft,
    to_peft,
)

Adapter = BlockRotation | ButterflyRotation | Reflections | SubspaceRotation

_ARRAYS, _CONFIG = "adapter_model", "adapter_config.json"
_SUFFIXES = (".safetensors", ".npz")


def read_adapters(
    path: FilePath,
    kernels: Mapping[str, ArrayLike] | None = None,
    *,
    bases: Mapping[str, ArrayLike] | None = None,
) -> dict[str, Adapter]:
    """Adapters from a folder of PEFT: OFT, BOFT, HRA or PSOFT.

    Args:
        path: A folder as PEFT's ``save_pretrained`` writes it, with
            ``adapter_config.json`` and ``adapter_model.safetensors`` (or ``.npz``); or
            the file of arrays in it.
        kernels: See :func:`sphax.reparam.from_peft`; so ``bases``.
        bases: For PSOFT.

    Returns:
        The adapters by module.

    Raises:
        FileNotFoundError: If the folder has no such file.
        ImportError: If safetensors is needed and not installed.
        ValueError: As :func:`read` and :func:`sphax.reparam.from_peft`.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> adapter = sx.reparam.BlockRotation(jnp.ones((2, 3)), dimension=6)
        >>> sx.convert.write_adapters(folder + "/adapter_model.npz", {"up": adapter})
        >>> sx.convert.read_adapters(folder)["up"].raw.shape
        (2, 3)

    References:
        `PEFT <https://github.com/huggingface/peft>`_, 0.21.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob(f"{_ARRAYS}.*"))
        if not files:
            raise FileNotFoundError(
                f"path must be a folder of PEFT with {_ARRAYS}.safetensors, got {path},"
                f" which has {', '.join(sorted(x.name for x in path.iterdir()))}."
            )
        # A pickle only if there is nothing else, for the error that says what to do.
        path = min(files, key=lambda file: file.suffix not in _SUFFIXES)
    tensors = read(path)
    config = json.loads((path.parent / _CONFIG).read_text())
    return from_peft(tensors, config, kernels, bases=bases)


def write_adapters(
    path: FilePath,
    adapters: Mapping[str, Adapter],
    *,
    bases: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Writes adapters into a folder, which PEFT's ``from_pretrained`` reads.

    Args:
        path: A folder, made if it does not exist; or the file of arrays in it, such as
            ``folder/adapter_model.npz``, which PEFT does not read.
        adapters: By module of the PyTorch model; see :func:`sphax.reparam.to_peft`.
        bases: For PSOFT.

    Raises:
        ImportError: If safetensors is needed and not installed.
        TypeError: As :func:`sphax.reparam.to_peft`.
        ValueError: As there.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> adapter = sx.reparam.BlockRotation(jnp.ones((2, 3)), dimension=6)
        >>> sx.convert.write_adapters(folder, {"layers.0.up": adapter})
        >>> sorted(os.listdir(folder))
        ['adapter_config.json', 'adapter_model.safetensors']
    """
    tensors, config = to_peft(adapters, bases=bases)
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        path /= f"{_ARRAYS}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, tensors)
    (path.parent / _CONFIG).write_text(json.dumps(config, indent=2))
