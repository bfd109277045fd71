"""Writing files: a full disk is an error that says how many bytes are needed."""

import contextlib
import errno
import os
from collections.abc import Iterator

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def disk_full(
    path: str | os.PathLike[str], partial: str | os.PathLike[str], needed: int
) -> Iterator[None]:
    """Says in the error of a full disk how many bytes a file needs.

    Args:
        path: The file.
        partial: Its name while it is written.
        needed: Bytes that it has after the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            error.errno,
            f"the disk is full: {os.fspath(path)} needs {needed} bytes, and"
            f" {os.path.getsize(partial)} could be written; they are removed",
        ) from error
