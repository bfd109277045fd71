"""Columns of integers in text files, of any number of lines."""

import os

import numpy as np
from numpy.typing import DTypeLike

from sphax._checks import check_count

_DIGITS = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))
_ALLOWED = _DIGITS | np.isin(np.arange(256), np.frombuffer(b" \t\r\n", np.uint8))
_BLOCK = 2**24


def read_integers(
    path: str | os.PathLike[str],
    columns: int,
    *,
    what: str = "",
    dtype: DTypeLike = np.int64,
) -> np.ndarray:
    r"""Reads a text file with the same number of integers in each line.

    In blocks, so that memory is that of the result: lists of pairs have tens of
    millions of lines.

    Args:
        path: The file; spaces or tabs are between the numbers of a line.
        columns: How many each line has.
        what: What they are, in words, for the messages of errors.
        dtype: Of the result.

    Returns:
        Non-negative integers, ``[lines, columns]``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line has other content; names file and line.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     print("1 11065 1", "2 11066 0", sep="\n", file=file, flush=True)
        ...     sx.data.read_integers(file.name, 3)
        array([[    1, 11065,     1],
               [    2, 11066,     0]])
    """
    check_count("columns", columns)
    blocks, lines = [np.empty((0, columns), dtype)], 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            block += file.readline()
            block += b"" if block.endswith(b"\n") else b"\n"
            found = np.frombuffer(block, np.uint8)
            starts = _DIGITS[found]
            starts[1:] &= ~_DIGITS[found[:-1]]
            ends = np.flatnonzero(found == ord("\n"))
            numbers = np.diff(np.cumsum(starts)[ends], prepend=0)
            strange = np.add.reduceat(~_ALLOWED[found], np.append(0, ends[:-1] + 1))
            for wrong in np.flatnonzero((numbers != columns) | (strange > 0))[:1]:
                text = block.split(b"\n", wrong + 1)[wrong][:60]
                about = f" ({what})" if what else ""
                raise ValueError(
                    f"{os.fspath(path)}: line {lines + wrong + 1} must be {columns}"
                    f" integers{about}, got {text!r}."
                )
            values = np.fromstring(block, np.int64, sep=" ").reshape(-1, columns)
            blocks.append(values.astype(dtype))
            lines += len(ends)
    return np.concatenate(blocks)
