"""Texts as bytes: files, and the one that comes with Python."""

import functools
import hashlib
import pathlib
import pydoc_data.topics

from experiments.common.images import DatasetNotFoundError


@functools.cache
def read(path: pathlib.Path | None) -> bytes:
    """The bytes of a file, or of Python's help topics in the order of their names.

    Raises:
        ValueError: If the file cannot be read.
    """
    if path is not None:
        try:
            return path.read_bytes()
        except OSError as error:
            raise ValueError(
                f"--text must be a file, got {path}: {error.strerror}."
            ) from error
    topics = pydoc_data.topics.topics
    return "\n".join(topics[name] for name in sorted(topics)).encode()


@functools.cache
def digest(path: pathlib.Path | None) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(read(path)).hexdigest()


def check_digest(path: pathlib.Path | None, expected: str) -> None:
    """Raises unless a text has the digest of the settings.

    Raises:
        DatasetNotFoundError: If it has another one.
    """
    found = digest(path)
    if found != expected:
        raise DatasetNotFoundError(
            f"{path or 'the help of this Python'} must have the SHA-256"
            f" {expected[:8]}..., got {found[:8]}.... Give another --text, or leave"
            " --sha256 out."
        )
