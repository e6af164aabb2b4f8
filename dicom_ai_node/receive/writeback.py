"""Lets the disk work while a file still arrives, so that the fsync at its end finds less to do."""

import ctypes
from collections.abc import Callable

_SYNC_FILE_RANGE_WRITE = 2


def _find() -> Callable[[int, int, int, int], int] | None:
    function = getattr(
        ctypes.CDLL(None), "sync_file_range", None
    )  # Linux; Python has no name for it
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


_sync_file_range = _find()


def start_writing_back(fd: int, offset: int, size: int) -> None:
    """Begin to write a range of the file to the disk, without waiting.

    A hint and no promise: an error shows in the fsync that follows.
    """
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, size, _SYNC_FILE_RANGE_WRITE)
