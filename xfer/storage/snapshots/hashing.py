"""Reading a whole file for its digest, with signs of life."""

import time
from collections.abc import Callable
from typing import Final

from xfer import digests
from xfer.errors import Refused
from xfer.storage.snapshots.contents import FileStatus, Reader

Beat = Callable[[int, int], None]
"""Called with how many bytes of how many of one file were read; (0, 0) during other work."""

_BLOCK_BYTES: Final = 1024 * 1024
_BEAT_SECONDS: Final = 0.5
"""At most so often: whoever waits expects one every second."""


class Pulse:
    """Calls `beat` now and then: it is called itself as often as there is progress.

    What `beat` raises ends the work.
    """

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._next = time.monotonic() + _BEAT_SECONDS

    def __call__(self, done: int = 0, size: int = 0) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + _BEAT_SECONDS
            self._beat(done, size)


def digest_of(reader: Reader, algorithm: str, pulse: Pulse) -> str | None:
    """The digest, as hex, of all that a file holds; None where it can't be read, or was changed.

    Refused (unsupported) for an algorithm that is not available here.
    """
    digest = digests.new(algorithm)
    before = status_of(reader)
    if before is None:
        return None
    block = memoryview(bytearray(min(_BLOCK_BYTES, before.size + 1)))
    done = 0
    while size := _read(reader, done, block):
        digest.update(block[:size])
        done += size
        pulse(done, before.size)
    after = status_of(reader)
    if after is None or done != before.size:
        return None
    is_same = (before.size, before.mtime_ns) == (after.size, after.mtime_ns)
    return digest.hexdigest() if is_same else None


def status_of(reader: Reader) -> FileStatus | None:
    """What an open file is now; None if that can't be told."""
    try:
        return reader.status()
    except Refused:
        return None


def _read(reader: Reader, offset: int, block: memoryview) -> int:
    """As `read_at`; 0, as at the end, where it fails: then there are fewer bytes than expected."""
    try:
        return reader.read_at(offset, block)
    except Refused:
        return 0
