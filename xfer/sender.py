"""A session from the sender's side, from the connection to the last receipt.

Opened beside `receiver`, the two read as one conversation. This thread sends
and never waits for a receipt; a second one takes what comes back and settles
it against what was sent. Knows no terminal and no store.
"""

import itertools
import sys
import threading
from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from xfer import digests, tree
from xfer.channel import Channel, expected
from xfer.connection import Target, connect
from xfer.digests import Beside
from xfer.errors import CorruptData, LocalError, XferError, from_peer
from xfer.messages import (
    DirectoryHeader,
    Done,
    FileHeader,
    Message,
    Receipt,
    Refusal,
    SymlinkHeader,
)
from xfer.sources import FileSource, Source, StreamSource
from xfer.tree import Entry, Kind, Unsendable

PART_BYTES: Final = 1024 * 1024
"""A file travels in parts of this size, each with the digest up to its end."""
_READ_AHEAD: Final = 3
"""Buffers: one part is sent, one is ready, one is being read."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one thing that was to be sent ended: with an outcome, or with an error.

    `size` in bytes and `digest` as hex, for files that were stored.
    """

    name: str
    kind: Kind
    size: int = 0
    algorithm: str = ""
    digest: str = ""
    outcome: str = ""
    error: XferError | None = None


def only_error(something_went: bool, errors: Collection[XferError]) -> XferError | None:
    """The one error that a job with `errors` amounts to; None when it went in part."""
    if something_went or len({error.exit_code for error in errors}) != 1:
        return None
    return next(iter(errors))


class Observer(Protocol):
    """Is told what happens; `settled` from another thread than the others."""

    def sending(self, name: str) -> None: ...

    def sent(self, size: int) -> None: ...

    def settled(self, result: Result) -> None: ...


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file, from `offset` on. `file_size` is None while it is not known."""

    offset: int
    data: memoryview
    digest: str
    file_size: int | None


def send(
    target: Target, paths: Sequence[str], observer: Observer, stream_name: str | None = None
) -> None:
    """Send `paths` (see `tree.walk`) to `target`, telling `observer` how each one ends.

    Raises what can be known before connecting (UsageError, LocalError), what
    keeps the session from opening, and what ends it early.
    """
    tree.check(paths, stream_name)
    channel = connect(target)
    SendSession(channel, target.algorithm, observer).run(tree.walk(paths, stream_name))


class SendSession:
    """What goes over one connection. Use `run` once."""

    def __init__(self, channel: Channel, algorithm: str, observer: Observer) -> None:
        self._channel = channel
        self._algorithm = algorithm
        self._observer = observer
        self._unsettled: dict[str, Result] = {}
        self._settling = threading.Lock()
        self._ended: XferError | None = None
        self._receipts = threading.Thread(target=self._take_receipts, daemon=True)
        self._beside = Beside()
        self._buffers = [memoryview(bytearray(PART_BYTES)) for _ in range(_READ_AHEAD)]

    def run(self, entries: Iterable[Entry | Unsendable]) -> None:
        """Send `entries` and wait for every receipt.

        What goes wrong with one entry is told to the observer; what ends the
        session is raised, after everything unsettled was told as failed with it.
        """
        self._receipts.start()
        try:
            with self._beside:
                self._send_all(entries)
            self._receipts.join()
        except XferError as error:
            self._channel.give_up(error)
            self._receipts.join()  # what the receiver had to say explains more than our own error
            self._ended = self._ended or error
        except BaseException:
            self._channel.abort()
            self._receipts.join()
            raise
        finally:
            self._channel.close()
        if self._ended:
            for name in list(self._unsettled):
                self._settle(name, error=self._ended)
            raise self._ended

    # This thread: what goes out

    def _send_all(self, entries: Iterable[Entry | Unsendable]) -> None:
        for entry in entries:
            if self._ended:
                return
            if isinstance(entry, Unsendable):
                self._observer.settled(Result(entry.name, Kind.FILE, error=entry.error))
            else:
                self._send(entry)
        self._channel.send(Done())
        self._channel.flush()

    def _send(self, entry: Entry) -> None:
        self._unsettled[entry.name] = Result(entry.name, entry.kind)
        self._observer.sending(entry.name)
        match entry.kind:
            case Kind.DIRECTORY:
                self._channel.send(DirectoryHeader(entry.name, entry.mode, entry.mtime_ns))
            case Kind.SYMLINK:
                self._channel.send(SymlinkHeader(entry.name, entry.target))
            case Kind.FILE | Kind.STREAM:
                try:
                    self._send_content(entry)
                except LocalError as error:
                    self._settle(entry.name, error=error)

    def _send_content(self, entry: Entry) -> None:
        with _open_source(entry) as source:
            parts = self._read_parts(source)
            if source.size is None or source.size > PART_BYTES:
                parts = self._beside.ahead(parts)
            try:
                for part in parts:
                    if self._ended or entry.name not in self._unsettled:
                        return  # refused meanwhile
                    self._send_part(entry, part, source)
            finally:
                source.interrupt()
                parts.close()

    def _read_parts(self, source: Source) -> Generator[Part, None, None]:
        """One pass: each byte is read and hashed once. A part is good until the next but one."""
        digest = digests.new(self._algorithm)
        offset = 0
        for buffer in itertools.cycle(self._buffers):
            data = buffer[: source.read_into(buffer)]
            digest.update(data)
            yield Part(offset, data, digest.hexdigest(), source.size)
            offset += len(data)
            if source.is_at_end():
                return

    def _send_part(self, entry: Entry, part: Part, source: Source) -> None:
        end = part.offset + len(part.data)
        is_last = end == part.file_size
        if is_last:
            self._expect_receipt(Result(entry.name, entry.kind, end, self._algorithm, part.digest))
        header = FileHeader(
            entry.name,
            part.file_size,
            offset=part.offset,
            length=None if is_last else len(part.data),
            mode=source.mode,
            mtime_ns=source.mtime_ns,
            **{self._algorithm: part.digest},
        )
        self._channel.send(header)
        self._channel.send_body(part.data)
        self._observer.sent(len(part.data))

    def _expect_receipt(self, result: Result) -> None:
        with self._settling:
            if result.name in self._unsettled:
                self._unsettled[result.name] = result

    # The other thread: what comes back

    def _take_receipts(self) -> None:
        try:
            while not isinstance(message := self._channel.receive(), Done):
                self._take(message)
            if self._unsettled:
                raise CorruptData("the receiver ended without a receipt for everything")
        except XferError as error:
            self._ended = error
            self._channel.abort()

    def _take(self, message: Message) -> None:
        if isinstance(message, Refusal):
            error = from_peer(message.code, message.message, retryable=message.retryable)
            self._settle(message.file_name, error=error)
            return
        receipt = expected(message, Receipt)
        sent = self._unsettled.get(receipt.file_name)
        if sent is None or not _matches(receipt, sent):
            raise CorruptData("a receipt for something that was not sent")
        self._settle(receipt.file_name, outcome=receipt.outcome)

    def _settle(self, name: str, *, outcome: str = "", error: XferError | None = None) -> None:
        with self._settling:
            sent = self._unsettled.pop(name, None)
        if sent:
            self._observer.settled(replace(sent, outcome=outcome, error=error))


def _open_source(entry: Entry) -> Source:
    if entry.kind is Kind.STREAM:
        return StreamSource(sys.stdin.fileno())
    return FileSource(entry)


def _matches(receipt: Receipt, sent: Result) -> bool:
    if sent.kind in (Kind.DIRECTORY, Kind.SYMLINK):
        return True
    acknowledged = (receipt.file_size, getattr(receipt, sent.algorithm or digests.DEFAULT))
    return acknowledged == (sent.size, sent.digest)
