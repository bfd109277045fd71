"""Columns of integers in text files, of any number of lines."""

import os

import numpy as np

_DIGITS = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))
_ALLOWED = _DIGITS | np.isin(np.arange(256), np.frombuffer(b" \t\r\n", np.uint8))
_BLOCK = 2**24


def read_integers(
    path: str | os.PathLike[str],
    what: str,
    columns: int,
    error: type[ValueError],
    dtype: type = np.int64,
) -> np.ndarray:
    """Reads lines of non-negative integers, in blocks, ``[lines, columns]``.

    Args:
        path: The file; spaces or tabs are between the numbers of a line.
        what: What the numbers of a line are, in words.
        columns: How many each line has.
        error: Raised if a line has other content; names the line.
        dtype: Of the integers.
    """
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
                raise error(
                    f"{os.fspath(path)}: line {lines + wrong + 1} must be {columns}"
                    f" integers ({what}), got {text!r}."
                )
            values = np.fromstring(block, np.int64, sep=" ").reshape(-1, columns)
            blocks.append(values.astype(dtype))
            lines += len(ends)
    return np.concatenate(blocks)
