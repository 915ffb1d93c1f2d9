"""A session from the sender's side, from the connection to the last receipt.

Opened beside `receiver`, the two read as one conversation. This thread sends
and never waits for a receipt; a second one takes what comes back and checks
it against what was sent. Knows no terminal and no store.
"""

import contextlib
import threading
from collections import deque

from msgspec import Struct

from xfer import digests
from xfer.errors import (
    ConnectionLost,
    CorruptData,
    LocalError,
    ProtocolError,
    XferError,
    from_peer,
)
from xfer.outcomes import Outcome
from xfer.sending.batches import Batch, Batches
from xfer.sending.observer import Observer, Result
from xfer.sending.offers import OutstandingOffers
from xfer.sending.parts import Beginning, Part, PartReader
from xfer.source.readers import Source, open_source
from xfer.source.tree import Entry, Kind, Unsendable
from xfer.system.background import BackgroundThread
from xfer.wire.channel import Channel, expected
from xfer.wire.keepalive import Heartbeat, Progress, StallLimit
from xfer.wire.messages import (
    DirectoryHeader,
    Done,
    FileHeader,
    Message,
    Offer,
    OfferedFile,
    Plan,
    PlannedFile,
    Receipt,
    Refusal,
    SymlinkHeader,
    Working,
)


class _Outstanding(Struct):
    """What is offered or sent, and what its receipt has to say of it."""

    kind: Kind
    size: int = 0
    algorithm: str = ""
    digest: str = ""


class Options(Struct, frozen=True):
    """How to send. `compare_contents` where equal size and time are not enough to skip."""

    algorithm: str = digests.DEFAULT
    compare_contents: bool = False


class SendSession:
    """What goes over one connection. Use `run` once."""

    def __init__(self, channel: Channel, options: Options, observer: Observer) -> None:
        self._channel = channel
        self._options = options
        self._observer = observer
        self._outstanding: dict[str, _Outstanding] = {}
        self._offers = OutstandingOffers()
        self._is_done = False
        self._stall_limit = StallLimit()
        self._ended: XferError | None = None
        self._replies = threading.Thread(target=self._receive_replies, daemon=True)
        self._background = BackgroundThread()
        heartbeat = Heartbeat(self._background, self._tell_checking)
        self._reader = PartReader(options.algorithm, self._background, heartbeat)

    def run(self, batches: Batches) -> None:
        """Send `batches` and wait for every receipt.

        What goes wrong with one entry is told to the observer; what ends the
        session is raised, after everything outstanding was told as failed with it.
        """
        self._replies.start()
        try:
            with self._background:
                self._send_all(batches)
            self._replies.join()
        except XferError as error:
            self._channel.give_up(error)
            self._replies.join()  # what the receiver had to say explains more than our own error
            if self._ended is None or (_is_loss(self._ended) and not _is_loss(error)):
                self._ended = error
        except BaseException:
            self._channel.abort()
            self._replies.join()
            raise
        finally:
            self._channel.close()
            del self._reader  # it knows this session: a circle is freed late, with its buffers
        if self._ended:
            self._ended.ends_session = True
            for name in list(self._outstanding):
                self._finish(name, error=self._ended)
            raise self._ended

    # This thread: what goes out

    def _tell_checking(self, progress: Progress) -> None:
        self._send_heartbeat(progress)
        self._observer.checking(progress)

    def _send_heartbeat(self, progress: Progress) -> None:
        self._stall_limit.renew()
        self._channel.send(Working(progress.name, progress.done, progress.size))
        self._channel.flush()

    def _send_all(self, batches: Batches) -> None:
        """Offer batch after batch, and send those for which the plan has come meanwhile."""
        offered: deque[Batch] = deque()
        self._channel.send(Offer((), self._options.algorithm))  # it may send heartbeats
        self._channel.flush()  # a receiver waits for a first message less long than for others
        for batch in batches:
            if self._ended:
                return
            if batch:
                self._offer(batch)
                offered.append(batch)
            while offered and (not batch or batches.is_full(offered)):
                self._send_batch(offered.popleft())
            if not batch:
                self._send_heartbeat(Progress(""))
        while offered:
            self._send_batch(offered.popleft())
        if not self._ended:
            self._is_done = True
            self._channel.send(Done())
            self._channel.flush()

    def _offer(self, batch: Batch) -> None:
        if roots := self._offers.roots_to_ask_about(batch):
            self._channel.send(Offer((), self._options.algorithm, tuple(roots)))
            self._channel.flush()
        files = [self._described(entry) for entry in batch if self._offers.should_offer(entry)]
        if files and not self._ended:
            self._offers.add([file.file_name for file in files])
            self._channel.send(Offer(tuple(files), self._options.algorithm))
            self._channel.flush()

    def _described(self, entry: Entry) -> OfferedFile:
        self._expect_answer(entry)
        digest = {}
        if self._options.compare_contents and (content := self._reader.digest_of(entry)):
            digest[self._options.algorithm] = content
        return OfferedFile(entry.name, entry.size, entry.mtime_ns, entry.mode, **digest)

    def _expect_answer(self, entry: Entry) -> None:
        self._outstanding[entry.name] = _Outstanding(entry.kind)
        self._stall_limit.expect_size(entry.size)

    def _send_batch(self, batch: Batch) -> None:
        for entry in batch:
            if self._ended:
                return
            if isinstance(entry, Unsendable):
                self._observer.finished(Result(entry.name, Kind.FILE, error=entry.error))
                continue
            plan = self._offers.plan_for(entry.name)
            self._observer.sending(entry.name)
            try:
                self._send(entry, plan)
            except LocalError as error:
                self._finish(entry.name, error=error)

    def _send(self, entry: Entry, plan: PlannedFile | None) -> None:
        if plan is None:
            self._expect_answer(entry)
        match entry.kind:
            case Kind.DIRECTORY:
                self._channel.send(DirectoryHeader(entry.name, entry.mode, entry.mtime_ns))
            case Kind.SYMLINK:
                self._channel.send(SymlinkHeader(entry.name, entry.target))
            case Kind.FILE if plan and plan.action == "skip":
                self._observer.skipped(entry.size)
                durable = self._channel.peer_flushes  # there is no receipt to say so
                self._finish(entry.name, Outcome.UNCHANGED, size=entry.size, durable=durable)
            case Kind.FILE if plan and plan.action == "refuse":
                self._observer.skipped(entry.size)
            case _:
                with open_source(entry) as source:
                    self._send_content(entry, source, self._reader.begin(source, plan))

    def _send_content(self, entry: Entry, source: Source, beginning: Beginning) -> None:
        if beginning.offset:
            self._observer.resuming(entry.name, beginning.offset)
            self._observer.skipped(beginning.offset)
        elif part := self._reader.whole(source):
            self._send_part(entry, part, source)
            return
        with contextlib.closing(self._reader.parts(source, beginning)) as parts:
            for part in parts:
                if self._ended or entry.name not in self._outstanding:
                    return  # refused meanwhile
                self._send_part(entry, part, source)

    def _send_part(self, entry: Entry, part: Part, source: Source) -> None:
        end = part.offset + len(part.data)
        algorithm = self._options.algorithm
        is_last = end == part.file_size
        if is_last and (sent := self._outstanding.get(entry.name)):
            sent.size, sent.algorithm, sent.digest = end, algorithm, part.digest
        header = FileHeader(
            entry.name,
            part.file_size,
            offset=part.offset,
            length=None if is_last else len(part.data),
            mode=source.mode,
            mtime_ns=source.mtime_ns,
            **{algorithm: part.digest},
        )
        self._channel.send(header, part.data)
        self._stall_limit.renew()
        self._observer.sent(len(part.data))

    # The other thread: what comes back

    def _receive_replies(self) -> None:
        try:
            while not isinstance(message := self._channel.receive(), Done):
                self._handle(message)
            if self._outstanding or not self._is_done:
                raise CorruptData("the receiver ended without a receipt for everything")
        except XferError as error:
            self._ended = error
        except Exception as error:  # noqa: BLE001 (raised where somebody can catch it)
            self._ended = XferError(f"internal error: {error!r}")
        if self._ended:
            self._channel.abort()
        self._offers.end(self._ended or ProtocolError("the session ended"))

    def _handle(self, message: Message) -> None:
        if self._moves_on(message):
            self._stall_limit.renew()
        else:
            self._stall_limit.check()
        match message:
            case Plan():
                self._offers.add_plan(message)
            case Refusal():
                self._offers.offer_all()
                error = from_peer(message.code, message.message, retryable=message.retryable)
                self._finish(message.file_name, error=error)
            case Working():
                self._observer.waiting(message.file_name, message.done, message.size)
            case _:
                self._handle_receipt(expected(message, Receipt))

    def _moves_on(self, message: Message) -> bool:
        """Whether something comes of it, of which there can only be so much."""
        if isinstance(message, Plan):
            return bool(message.files)
        return isinstance(message, Receipt | Refusal) and message.file_name in self._outstanding

    def _handle_receipt(self, receipt: Receipt) -> None:
        sent = self._outstanding.get(receipt.file_name)
        if sent is None or not _matches(receipt, sent):
            raise CorruptData("a receipt for something that was not sent")
        self._finish(receipt.file_name, receipt.outcome, durable=receipt.durable)

    def _finish(
        self,
        name: str,
        outcome: str = "",
        *,
        size: int | None = None,
        durable: bool = True,
        error: XferError | None = None,
    ) -> None:
        if sent := self._outstanding.pop(name, None):
            size = sent.size if size is None else size
            told = (name, sent.kind, size, sent.algorithm, sent.digest, outcome, durable, error)
            self._observer.finished(Result(*told))


def _is_loss(error: XferError) -> bool:
    """Whether it only says that the connection is gone, as it is after our own last word."""
    return isinstance(error, ConnectionLost) and not error.is_from_peer


def _matches(receipt: Receipt, sent: _Outstanding) -> bool:
    if sent.kind in (Kind.DIRECTORY, Kind.SYMLINK):
        return True
    acknowledged = (receipt.file_size, getattr(receipt, sent.algorithm or digests.DEFAULT))
    return acknowledged == (sent.size, sent.digest)
