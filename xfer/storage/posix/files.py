"""Open files: their content, compared and read, and the metadata that is kept with it."""

import contextlib
import os
import stat
from typing import Final

from xfer.storage.contract import Metadata
from xfer.storage.os_errors import refusal

_COMPARED_BYTES: Final = 1024 * 1024
_STORABLE_MODE: Final = 0o777
"""Set-id and sticky bits stay behind."""


class OpenFile:
    """A stored file, open for reading."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read_at(self, offset: int, view: memoryview) -> int:
        return read_at(self._descriptor, offset, view)

    def apply(self, metadata: Metadata) -> None:
        with contextlib.suppress(OSError):  # another owner's, a read-only disk: the bytes are there
            apply_metadata(self._descriptor, metadata)

    def close(self) -> None:
        os.close(self._descriptor)


def same_content(one: int, other: int) -> bool:
    if os.fstat(one).st_size != os.fstat(other).st_size:
        return False
    offset = 0
    while block := os.pread(one, _COMPARED_BYTES, offset):
        if block != os.pread(other, _COMPARED_BYTES, offset):
            return False
        offset += len(block)
    return True


def apply_metadata(descriptor: int, metadata: Metadata) -> None:
    if metadata.mode is not None:
        os.fchmod(descriptor, metadata.mode & _STORABLE_MODE)
    if metadata.mtime_ns is not None:
        try:  # noqa: SIM105 (for every small file, a context takes its time)
            os.utime(descriptor, ns=(metadata.mtime_ns, metadata.mtime_ns))
        except OverflowError:
            pass  # a time that this system can't represent is no reason to lose the bytes


def has_metadata(status: os.stat_result, metadata: Metadata) -> bool:
    """Whether to apply `metadata` would change nothing."""
    mode = status.st_mode if metadata.mode is None else metadata.mode
    mtime_ns = status.st_mtime_ns if metadata.mtime_ns is None else metadata.mtime_ns
    is_same_mode = mode & _STORABLE_MODE == stat.S_IMODE(status.st_mode) & _STORABLE_MODE
    return is_same_mode and mtime_ns == status.st_mtime_ns


def read_at(descriptor: int, offset: int, view: memoryview) -> int:
    try:
        return os.preadv(descriptor, [view], offset)
    except OSError as error:
        raise refusal(error) from error
