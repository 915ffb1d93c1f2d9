"""A session from the sender's side, from the open channel to the last receipt.

    batches ──▶ offer ──▶ wait for the plan ──▶ send ──▶ Done        this thread
                  │              ▲                │
                  ▼              │                ▼
               receiver ──▶ plans, receipts, refusals ──▶ results    the thread of `Replies`

Up to OFFERS_AHEAD batches are on offer while the first of them is sent. This
thread never waits for a receipt: one comes when the file is on disk, so
waiting would cost a round trip and a flush a file, and the receiver could not
flush many files together. Read it beside receiving/session.py: together they
are one conversation.
"""

import contextlib
from collections import deque

from msgspec import Struct

from xfer.errors import ConnectionLost, LocalError, XferError
from xfer.sending.batches import Batch, Batches
from xfer.sending.observer import SKIPPED, ProgressSink, Result, Results
from xfer.sending.offers import Offers
from xfer.sending.outstanding import Outstanding
from xfer.sending.parts import Beginning, Options, Part, PartReader
from xfer.sending.replies import Replies
from xfer.source.readers import Source
from xfer.source.tree import Entry, Kind, Special, Unsendable
from xfer.system.background import BackgroundThread
from xfer.wire.channel import Channel
from xfer.wire.keepalive import Heartbeat, Progress, StallLimit
from xfer.wire.messages import (
    DirectoryHeader,
    Done,
    FileHeader,
    Message,
    Offer,
    PlannedFile,
    Refusal,
    SymlinkHeader,
    Working,
)


class SendSession:
    """What goes over one connection. Use `run` once.

    Its fields belong to the thread that calls `run`. What it shares with the
    receiving thread is guarded where it is: in Outstanding, Offers and Replies.
    """

    def __init__(
        self, channel: Channel, options: Options, progress: ProgressSink, results: Results
    ) -> None:
        self._channel = channel
        self._algorithm = options.algorithm
        self._is_asked = options.is_asked
        self._is_dry = options.dry_run
        self._progress = progress
        self._results = results
        self._stall_limit = StallLimit()
        """Renewed by both threads: one float, replaced whole, and either time is right."""
        self._beat = _Beat(channel, self._stall_limit, progress)
        self._background = BackgroundThread()
        heartbeat = Heartbeat(self._background, self._beat.while_checking)
        self._open_source = options.open_source
        self._reader = PartReader(options, self._background, heartbeat)
        self._outstanding = Outstanding(results, self._stall_limit)
        self._offers = Offers(options, self._reader, self._outstanding)
        self._replies = Replies(
            channel, self._offers, self._outstanding, self._stall_limit, progress
        )

    def run(self, batches: Batches) -> None:
        """Send `batches` and wait for every receipt. Closes the channel.

        What goes wrong with one entry is a result; what ends the session is
        raised, after everything outstanding has failed with it.
        """
        own_error = None
        self._replies.start()
        try:
            with self._background:
                self._send_all(batches)
            self._replies.join()
        except XferError as error:
            self._channel.give_up(error)
            self._replies.join()
            own_error = error
        except BaseException:
            self._channel.abort()
            self._replies.join()
            raise
        finally:
            self._channel.close()
            self._reader.close()
        cause = _cause(self._replies.error, own_error)
        if cause and not (isinstance(cause, ConnectionLost) and self._replies.has_all):
            self._outstanding.fail_all(cause)
            raise cause

    def _send_all(self, batches: Batches) -> None:
        """Offer batch after batch, and send those for which the plan has come meanwhile."""
        offered: deque[Batch] = deque()
        # An empty offer first, before any entry is looked up: the receiver waits less long for
        # the first message than for others. It also tells that this side knows heartbeats.
        self._send_now(Offer((), self._algorithm))
        for batch in batches:
            if self._replies.error:
                return
            if batch:
                self._offer(batch)
                offered.append(batch)
            while offered and (not batch or batches.is_full(offered)):
                self._send_batch(offered.popleft())
            if not batch:
                self._beat.send(Progress(""))
        while offered:
            self._send_batch(offered.popleft())
        if not self._replies.error:
            self._replies.expect_end()
            self._send_now(Done())

    def _offer(self, batch: Batch) -> None:
        for offer in self._offers.offers_for(batch):
            if self._replies.error:
                return
            self._send_now(offer)

    def _send_batch(self, batch: Batch) -> None:
        for entry in batch:
            if self._replies.error:
                return
            if not isinstance(entry, Entry):
                self._results.finished(_not_sent(entry))
                if isinstance(entry, Unsendable):
                    self._tell_failure(entry.name, entry.error)
                continue
            plan = self._offers.plan_for(entry.name)
            self._progress.sending(entry.name)
            if plan is None:
                self._outstanding.add(entry)
            try:
                self._send(entry, plan)
            except LocalError as error:
                self._outstanding.fail(entry.name, error)
                self._tell_failure(entry.name, error)

    def _tell_failure(self, name: str, error: XferError) -> None:
        """Whoever has asked for `name` would wait for it in vain."""
        if self._is_asked:
            self._channel.send(Refusal(name, error.code, error.message, error.retryable))

    def _send(self, entry: Entry, plan: PlannedFile | None) -> None:
        match entry.kind:
            case Kind.DIRECTORY:
                self._results.begun(entry, 0)
                self._channel.send(DirectoryHeader(entry.name, entry.mode, entry.mtime_ns))
            case Kind.SYMLINK:
                self._results.begun(entry, 0)
                self._channel.send(SymlinkHeader(entry.name, entry.target))
            case Kind.FILE if plan and plan.action == "skip":
                self._progress.skipped(entry.size)
                # There is no receipt that could say whether the receiver flushes.
                self._outstanding.skip(entry, durable=self._channel.peer_flushes)
            case Kind.FILE if plan and plan.action == "refuse":
                self._progress.skipped(entry.size)  # the refusal came before the plan
            case Kind.FILE if self._is_dry:
                self._outstanding.skip(entry, durable=True)
            case _:
                with self._open_source(entry) as source:
                    self._send_content(entry, source, self._reader.begin(source, plan))

    def _send_content(self, entry: Entry, source: Source, beginning: Beginning) -> None:
        self._results.begun(entry, beginning.offset)
        if beginning.offset:
            self._progress.resumed(entry.name, beginning.offset)
        elif part := self._reader.whole(source):
            self._send_part(entry, part, source)
            return
        with contextlib.closing(self._reader.parts(source, beginning)) as parts:
            for part in parts:
                if self._replies.error or entry.name not in self._outstanding:
                    return  # the session has ended, or the receiver has refused this file
                self._send_part(entry, part, source)

    def _send_part(self, entry: Entry, part: Part, source: Source) -> None:
        end = part.offset + len(part.data)
        is_last = end == part.file_size
        if is_last:
            self._outstanding.complete(entry.name, end, self._algorithm, part.digest)
        header = FileHeader(
            entry.name,
            part.file_size,
            offset=part.offset,
            length=None if is_last else len(part.data),
            mode=source.mode,
            mtime_ns=source.mtime_ns,
            **{self._algorithm: part.digest},
        )
        self._channel.send(header, part.data)
        self._stall_limit.renew()
        self._progress.sent(len(part.data))

    def _send_now(self, message: Message) -> None:
        self._channel.send(message)
        self._channel.flush()


class _Beat(Struct, frozen=True):
    """Tells the receiver that this side is at work. The sending thread calls it.

    It does not know its session, since the reader knows it: in a circle, a
    session that is over would be freed late, with its buffers.
    """

    channel: Channel
    stall_limit: StallLimit
    progress: ProgressSink

    def send(self, work: Progress) -> None:
        self.stall_limit.renew()
        self.channel.send(Working(work.name, work.done, work.size))
        self.channel.flush()

    def while_checking(self, work: Progress) -> None:
        self.send(work)
        self.progress.checking(work)


def _not_sent(found: Unsendable | Special) -> Result:
    if isinstance(found, Special):
        return Result(found.name, Kind.SPECIAL, outcome=SKIPPED, message=found.reason)
    return Result(found.name, Kind.FILE, error=found.error)


def _cause(from_replies: XferError | None, own: XferError | None) -> XferError | None:
    """Which of two errors explains the end of a session.

    What the receiver said explains more than our own error. But after our own
    error the connection is closed: that it is gone explains nothing.
    """
    if from_replies is None or (_is_loss(from_replies) and own and not _is_loss(own)):
        return own
    return from_replies


def _is_loss(error: XferError) -> bool:
    """Whether this side only found that the connection is gone."""
    return isinstance(error, ConnectionLost) and not error.is_from_peer
