"""Moves the body of a part from the channel into its upload.

Two buffers take turns, so that a large body uses two processors. Python's digests
let go of the interpreter while they work on a chunk:

    session's thread                    background thread
    receive chunk 1 into buffer A
    write A; receive chunk 2 into B     hash A
    write B; receive chunk 3 into A     hash B
"""

import itertools
from functools import cached_property
from typing import Final

from xfer.receiving.uploads import Upload
from xfer.system.background import BackgroundThread
from xfer.wire.inbox import Body

INLINE_BYTES: Final = 64 * 1024
"""A body of up to this is hashed sooner than handed to another thread."""
_CHUNK_BYTES: Final = 256 * 1024


class BodyReceiver:
    """Does this for one session. `background` has nothing else to do meanwhile."""

    def __init__(self, background: BackgroundThread) -> None:
        self._background = background

    @cached_property
    def _buffers(self) -> tuple[memoryview, memoryview]:
        """Made when they are needed: a session of small files needs none."""
        both = memoryview(bytearray(2 * _CHUNK_BYTES))
        return both[:_CHUNK_BYTES], both[_CHUNK_BYTES:]

    def append(self, body: Body, upload: Upload) -> None:
        """Write and hash all of `body`.

        Raises Refused when the store fails; part of the body may still be to come
        then. Raises ConnectionLost, and PeerTimeout for a body that is too slow.
        """
        if body.remaining <= INLINE_BYTES:
            chunk = self._buffers[0][: body.remaining]
            body.read_into(chunk)
            upload.digest.update(chunk)
            upload.partial.write(chunk)
            return
        hashing = None
        for buffer in itertools.cycle(self._buffers):
            chunk = buffer[: body.remaining]
            body.read_into(chunk)
            if hashing:
                hashing.result()
            if not chunk:
                return
            hashing = self._background.update(upload.digest, chunk)
            upload.partial.write(chunk)

    def drain(self, body: Body) -> None:
        """Receive what is still to come of a body that is not wanted."""
        body.drain(self._buffers[0])
