"""Writing files: a full disk is an error that says what was missing."""

import contextlib
import errno
import os
from collections.abc import Iterator


@contextlib.contextmanager
def disk_full(
    path: str | os.PathLike[str], written: int, needed: int
) -> Iterator[None]:
    """Says in the error of a full disk how many bytes the file has and needs.

    Args:
        path: The file that is written.
        written: Bytes of it so far.
        needed: Bytes that the block writes.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"the disk is full after {written} bytes of {path}, which needs {needed}"
            " bytes more for the next part; what was written is removed",
        ) from error
