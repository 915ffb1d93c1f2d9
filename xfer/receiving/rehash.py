"""Hashes again what a store has already of a file.

A digest on the wire is always that of a file from its beginning, and a running
digest cannot be written to a disk and loaded again. So before a file is resumed,
or compared with the sender's by content, the bytes that are there are read:

    session's thread                   background thread
    hash_beginning ──────────────────> read, hash (and copy) block after block
    heartbeat, once a second                │
    returns <───────────────────────────────┘
"""

import functools
from collections.abc import Sequence
from typing import Final

from xfer.digests import Digest
from xfer.errors import Code, Refused
from xfer.storage.contract import Partial, StoreWriter
from xfer.storage.reading import Readable
from xfer.wire.keepalive import Heartbeat, Progress

_BLOCK_BYTES: Final = 1024 * 1024


class Rehasher:
    """Does this for one session; `heartbeat` runs it in a background thread."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def hash_beginning(
        self, source: Readable, digest: Digest, progress: Progress, copy: Partial | None = None
    ) -> None:
        """Feed `digest` with the first `progress.size` bytes of `source`; append them to `copy`.

        Refused (busy) when `source` has fewer bytes by now, and when the store fails.
        ConnectionLost when a heartbeat finds the sender gone. Neither file is used any
        more when this returns or raises.
        """
        self._heartbeat.during(progress, functools.partial(_hash, source, digest, copy))

    def hash_kept(self, kept: Partial, digest: Digest, progress: Progress) -> None:
        """Feed `digest` with what an earlier session left, as the disk has it.

        Nobody flushed it, and what the kernel failed to write is still in its memory,
        where it looks right. Errors as above.
        """
        self._heartbeat.during(progress, functools.partial(_reload_and_hash, kept, digest))

    def flush(self, writer: StoreWriter, files: Sequence[str]) -> set[str]:
        """Flush stored files; those that may be lost. ConnectionLost as above."""
        progress = Progress(files[0])
        return self._heartbeat.during(progress, lambda _: writer.flush_stored(files))


def _reload_and_hash(kept: Partial, digest: Digest, progress: Progress) -> None:
    kept.reload()
    _hash(kept, digest, None, progress)


def _hash(source: Readable, digest: Digest, copy: Partial | None, progress: Progress) -> None:
    block = memoryview(bytearray(min(_BLOCK_BYTES, progress.size)))
    while progress.done < progress.size:
        size = source.read_at(progress.done, block[: progress.size - progress.done])
        if not size:
            raise Refused("it became shorter meanwhile", code=Code.BUSY)
        digest.update(block[:size])
        if copy:
            copy.write(block[:size])
        progress.done += size  # read by the session's thread for its heartbeats: one number
