"""A file as parts, each with the digest of the file up to its end.

Each byte is read and hashed once. In files of more than one part, the helper
thread reads and hashes the next part while this thread sends the one before.
"""

import itertools
from collections.abc import Callable, Generator
from typing import Final

from msgspec import Struct

from xfer import digests
from xfer.digests import Digest
from xfer.errors import ConnectionLost, LocalError
from xfer.source.readers import Source, open_source
from xfer.source.tree import Entry
from xfer.system.background import BackgroundThread
from xfer.wire.keepalive import Heartbeat, Progress
from xfer.wire.messages import PlannedFile

PART_BYTES: Final = 1024 * 1024
_BUFFERS: Final = 3
"""One for the part that is sent, one for the next, one for the part that is being read."""


class Options(Struct, frozen=True):
    """How to send: the `algorithm` of digests, and what counts as the same file.

    With `compare_contents`, equal size and time are not enough to skip a file:
    each is read and offered with its digest. `is_asked` says that the other side has
    asked for what is sent: it is told what cannot be. In a `dry_run`, no content of a
    file is sent. `open_source` opens what is found.
    """

    algorithm: str = digests.DEFAULT
    compare_contents: bool = False
    is_asked: bool = False
    dry_run: bool = False
    open_source: Callable[[Entry], Source] = open_source


class Beginning(Struct, frozen=True):
    """Where sending begins: `offset` in bytes, and the running digest of what comes before."""

    offset: int
    digest: Digest


class Part(Struct, frozen=True):
    """Bytes of a file from `offset` on, and the digest of the file up to their end, as hex.

    `file_size` is None while it is not known.
    """

    offset: int
    data: memoryview
    digest: str
    file_size: int | None


class PartReader:
    """Reads one source at a time, into buffers that it uses again.

    The sending thread calls it, but for `interrupt`; the buffers are filled by one
    thread at a time.
    """

    def __init__(
        self, options: Options, background: BackgroundThread, heartbeat: Heartbeat
    ) -> None:
        self._algorithm = options.algorithm
        self._open_source = options.open_source
        self._background = background
        self._heartbeat = heartbeat
        self._buffers = [_buffer()]
        # Set by the sending thread before it looks at `_is_interrupted`, which any thread sets
        # before it looks here: so one of the two interrupts the source.
        self._source: Source | None = None
        self._is_interrupted = False

    def begin(self, source: Source, plan: PlannedFile | None) -> Beginning:
        """Begin where the receiver's partial ends, if its digest is ours; else at the start.

        Raises LocalError if the source cannot be read, or (standard input) read again.
        """
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
        """The only part of a file that fits into one; None for larger files and for streams."""
        if source.size is None or source.size > PART_BYTES:
            return None
        data = self._buffers[0][: source.read_into(self._buffers[0])]
        digest = digests.new(self._algorithm)
        digest.update(data)
        return Part(0, data, digest.hexdigest(), source.size)

    def parts(self, source: Source, beginning: Beginning) -> Generator[Part, None, None]:
        """The parts from `beginning` on, at least one.

        The data of a part is overwritten when the next but one is asked for.
        Once the generator is closed, nothing reads the source any more.
        """
        self._source = source
        if self._is_interrupted:
            source.interrupt()
        parts = self._read(source, beginning)
        if source.size is None or source.size - beginning.offset > PART_BYTES:
            parts = self._background.prefetch(parts)
        try:
            # Not `yield from`: that would close `parts`, which waits for a read, before `finally`.
            for part in parts:  # noqa: UP028
                yield part
        finally:
            source.interrupt()
            parts.close()

    def digest_of(self, entry: Entry) -> str | None:
        """The digest of a whole file as hex; None if it can't be read.

        The file is sent nevertheless: that finds the reason, and reports it.
        """
        digest = digests.new(self._algorithm)
        try:
            with self._open_source(entry) as source:
                self._read_prefix(source, Progress(entry.name, source.size or 0), digest)
        except LocalError:
            return None
        return digest.hexdigest()

    def interrupt(self) -> None:
        """Let what is being read end soon: the session is over. Any thread may."""
        self._is_interrupted = True
        if source := self._source:
            source.interrupt()

    def close(self) -> None:
        """Free the buffers now: an error that ends the session holds it, by its traceback."""
        self._buffers.clear()

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
                if self._is_interrupted:
                    raise ConnectionLost("the session ended")
                block = self._buffers[0][: progress.size - progress.done]
                filled = source.read_into(block)
                if not filled:
                    raise LocalError(f"{progress.name} became shorter while it was read")
                digest.update(block[:filled])
                progress.done += filled

        self._heartbeat.during(progress, work)


def _buffer() -> memoryview:
    return memoryview(bytearray(PART_BYTES))
