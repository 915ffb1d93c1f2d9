"""Whole files that are there under their names."""

import contextlib
import os
from typing import Final

from xfer.storage import Metadata
from xfer.storage.partial import apply_metadata, read_at

_COMPARED_BYTES: Final = 1024 * 1024


class HeldFile:
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
