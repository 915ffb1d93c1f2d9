"""Hashes what a store has already, so that a digest of all of it can go on from there."""

from typing import Final

from xfer.digests import Digest
from xfer.errors import Code, Refused
from xfer.storage.contract import Partial, Readable
from xfer.wire.keepalive import Heartbeat, Progress

_BLOCK_BYTES: Final = 1024 * 1024


class Rehasher:
    """Does it for one session, and sends heartbeats meanwhile."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def hash_prefix(
        self, source: Readable, digest: Digest, progress: Progress, copy: Partial | None
    ) -> None:
        """Hash, and where asked for copy, the first `progress.size` bytes of `source`."""

        def work(progress: Progress) -> None:
            block = memoryview(bytearray(min(_BLOCK_BYTES, progress.size)))
            while progress.done < progress.size:
                size = source.read_at(progress.done, block[: progress.size - progress.done])
                if not size:
                    raise Refused("it became shorter meanwhile", code=Code.BUSY)
                digest.update(block[:size])
                if copy:
                    copy.write(block[:size])
                progress.done += size

        self._heartbeat.during(progress, work)
