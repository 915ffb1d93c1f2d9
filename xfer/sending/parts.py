"""A file as parts, each with the digest up to its end: read once, hashed once.

Reading and hashing the next part happens while the one before is sent.
"""

import itertools
from collections.abc import Generator
from typing import Final

from msgspec import Struct

from xfer import digests
from xfer.digests import Digest
from xfer.errors import LocalError
from xfer.source.readers import Source, open_source
from xfer.source.tree import Entry
from xfer.system.background import BackgroundThread
from xfer.wire.keepalive import Heartbeat, Progress
from xfer.wire.messages import PlannedFile

PART_BYTES: Final = 1024 * 1024
_BUFFERS: Final = 3
"""One part is sent, one is ready, one is being read."""


class Beginning(Struct, frozen=True):
    """Where in a file the sending begins (bytes), and the digest of what comes before."""

    offset: int
    digest: Digest


class Part(Struct, frozen=True):
    """Bytes of a file, from `offset` on. `file_size` is None while it is not known."""

    offset: int
    data: memoryview
    digest: str
    file_size: int | None


class PartReader:
    """Reads one source at a time, into buffers that it uses again."""

    def __init__(self, algorithm: str, background: BackgroundThread, heartbeat: Heartbeat) -> None:
        self._algorithm = algorithm
        self._background = background
        self._heartbeat = heartbeat
        self._buffers = [_buffer()]

    def begin(self, source: Source, plan: PlannedFile | None) -> Beginning:
        """Where to begin: where the receiver stands, if its bytes are the same as ours."""
        digest = digests.new(self._algorithm)
        if plan is None or plan.action != "resume":
            return Beginning(0, digest)
        if source.size is not None and plan.offset <= source.size:
            self._read_prefix(source, Progress(plan.file_name, plan.offset), digest)
            if digest.hexdigest() == plan.digest:
                return Beginning(plan.offset, digest)
        source.rewind()
        return Beginning(0, digests.new(self._algorithm))

    def whole(self, source: Source) -> Part | None:
        """All of a file that fits into one part; None where there is more to it."""
        if source.size is None or source.size > PART_BYTES:
            return None
        data = self._buffers[0][: source.read_into(self._buffers[0])]
        digest = digests.new(self._algorithm)
        digest.update(data)
        return Part(0, data, digest.hexdigest(), source.size)

    def parts(self, source: Source, beginning: Beginning) -> Generator[Part, None, None]:
        """The parts from there on, at least one; each is good until the next but one.

        Closing the generator lets go of the source.
        """
        parts = self._read(source, beginning)
        if source.size is None or source.size - beginning.offset > PART_BYTES:
            parts = self._background.prefetch(parts)
        try:
            yield from parts
        finally:
            source.interrupt()
            parts.close()

    def digest_of(self, entry: Entry) -> str | None:
        """The digest of a whole file; None if it can't be read, which sending it will tell."""
        digest = digests.new(self._algorithm)
        try:
            with open_source(entry) as source:
                self._read_prefix(source, Progress(entry.name, source.size or 0), digest)
        except LocalError:
            return None
        return digest.hexdigest()

    def _read(self, source: Source, beginning: Beginning) -> Generator[Part, None, None]:
        offset, digest = beginning.offset, beginning.digest
        self._buffers += [_buffer() for _ in range(_BUFFERS - len(self._buffers))]
        for buffer in itertools.cycle(self._buffers):
            data = buffer[: source.read_into(buffer)]
            digest.update(data)
            yield Part(offset, data, digest.hexdigest(), source.size)
            offset += len(data)
            if source.is_at_end():
                return

    def _read_prefix(self, source: Source, progress: Progress, digest: Digest) -> None:
        def work(progress: Progress) -> None:
            while progress.done < progress.size:
                block = self._buffers[0][: progress.size - progress.done]
                filled = source.read_into(block)
                if not filled:
                    raise LocalError(f"{progress.name} became shorter while it was read")
                digest.update(block[:filled])
                progress.done += filled

        self._heartbeat.during(progress, work)


def _buffer() -> memoryview:
    return memoryview(bytearray(PART_BYTES))
