"""One sender's session from the receiver's side: from its first message to the last receipt.

The sender's side is in `xfer.sending.session`; read beside each other, the two
are one conversation. How an item gets from the socket to its receipt:

    channel ── Offer ────────────> Planner ── Plan ──> channel
       │
       ├────── header, body ─────> Uploads, BodyReceiver: a partial in the store, verified
       │                              │ once all of it is here
       └────── directory, link ──> CommitQueue
                                      │ a batch
                                   Committer: put under their names, flushed
                                      │ outcomes
                                   ReceiptSender ── Receipt, Refusal ──> channel

A commit begins (`_commit`)
- when there is nothing to read: the transport, before it waits for the socket,
  calls `_on_idle`, and again when a commit can go on that waited for a disk;
- when 64 items are pending, so that a sender that never pauses gets receipts;
- when 32 MiB are uncommitted or the sender is done (`_commit_below`): here the
  session waits, and sends heartbeats meanwhile.

All of this is one thread, the session's own. Hashing a large body, and reading
what a file can be resumed from, is done in a background thread; what a commit
waits for in another, see `committer`. Knows no terminal and no kind of store.
"""

import contextlib
import logging
import time

from xfer import logs, names
from xfer.errors import Code, ConnectionLost, ProtocolError, Refused, from_peer
from xfer.logs import Peer
from xfer.names import printable
from xfer.receiving.bodies import INLINE_BYTES, BodyReceiver
from xfer.receiving.commit_queue import BATCH_ITEMS, FULL_WEIGHT, ArrivedItem, CommitQueue
from xfer.receiving.committer import Committer
from xfer.receiving.heartbeats import HeartbeatSender
from xfer.receiving.observer import ReceivingObserver, tell_answer, tell_names
from xfer.receiving.planner import Planner
from xfer.receiving.receipts import ReceiptSender
from xfer.receiving.recorder import RunRecorder
from xfer.receiving.rehash import Rehasher
from xfer.receiving.uploads import Uploads
from xfer.storage import recording
from xfer.storage.contract import Metadata, NewDirectory, NewFile, NewSymlink, Partial, StoreWriter
from xfer.system.background import BackgroundThread
from xfer.system.stop import Interrupted, StopSignal
from xfer.wire.channel import Channel
from xfer.wire.inbox import Body
from xfer.wire.keepalive import HEARTBEAT_SECONDS, Heartbeat
from xfer.wire.messages import (
    DirectoryHeader,
    Done,
    Error,
    FileHeader,
    Listing,
    Message,
    Offer,
    Refusal,
    Run,
    SymlinkHeader,
    Working,
)
from xfer.wire.waiter import IdleTask

log = logging.getLogger("xfer.receiver")


class Session:
    """Receives from one authenticated sender. Use `run` once.

    Items go into the store through `writer`, which the caller closes. `stop` is
    set when the receiver stops, `peer` is whom the log names, and `observer` is
    told what happens. Raises Refused (busy) when too many files are open.
    """

    def __init__(
        self,
        channel: Channel,
        writer: StoreWriter,
        stop: StopSignal,
        peer: Peer,
        observer: ReceivingObserver | None = None,
    ) -> None:
        self._channel = channel
        self._observer = observer
        self._writer = writer
        self._stop = stop
        self._peer = peer
        self._receipts = ReceiptSender(channel, peer, durable=writer.durable, observer=observer)
        self._heartbeats = HeartbeatSender(channel)
        self._background = BackgroundThread()
        self._bodies = BodyReceiver(self._background)
        rehasher = Rehasher(Heartbeat(self._background, self._heartbeats.send))
        self._uploads = Uploads(writer, rehasher)
        self._planner = Planner(writer, self._uploads, rehasher, self._receipts, observer)
        self._recorder: RunRecorder | None = None
        self._queue = CommitQueue()
        self._committer = Committer(writer, self._queue, self._heartbeats.send)

    def run(self, message: Message | None = None) -> None:
        """Receive until the sender is done; `message` is the first one, if it has come already.

        Raises what ends the session early: any XferError. Then, too, what arrived
        whole is committed, and what can be resumed is kept.
        """
        self._channel.set_idle_task(IdleTask(self._committer.descriptor, self._on_idle))
        try:
            message = message or self._next_message()
            while not isinstance(message, Done):
                self._handle(message)
                message = self._next_message()
            self._commit_below(1)
            # Before the sender is told that this is over: if it comes again at once, its
            # partials must not be locked any more.
            self._keep_partials()
            self._writer.finish()
            self._channel.send(Done())
            self._channel.flush()
        finally:
            self._channel.set_idle_task(None)
            self._end_commits()
            self._background.close()
            self._keep_partials()

    def holds(self, name: str) -> bool:
        """Whether this session has the partial of this name. Any thread may ask."""
        return self._uploads.hold(name)

    def _keep_partials(self) -> None:
        for name, size in self._uploads.keep_all().items():
            log.warning(
                "%s %s: interrupted at %d bytes", self._peer, printable(name), size,
                extra=logs.about("interrupted", self._peer, file_name=name, bytes=size),
            )  # fmt: skip

    def _next_message(self) -> Message:
        # When the receiver stops, a file of which parts are missing may still be finished.
        stop = None if self._uploads.are_arriving else self._stop
        try:
            while not self._channel.wait_for_message(stop, HEARTBEAT_SECONDS):
                pass
        except Interrupted:
            self._commit_below(1)
            raise Refused("the receiver is stopping", code=Code.SHUTTING_DOWN) from None
        return self._channel.receive()

    def _on_idle(self, has_come: bool) -> None:
        """Called by the transport when there is nothing to receive for the moment."""
        self._commit()
        # On a slow line, a sender that has handed everything to its system hears nothing for
        # as long as that is on its way: so a heartbeat says that bytes have come.
        if has_come or self._queue.weight:
            self._heartbeats.send()

    def _commit(self) -> None:
        """Commit as much as possible without waiting, and send the receipts."""
        for committed in self._committer.run():
            if self._recorder:
                self._recorder.record_committed(committed)
            with contextlib.suppress(ConnectionLost):  # all is stored; the next try finds it
                self._receipts.answer(committed)

    def _commit_below(self, weight: int) -> None:
        """Commit until less than `weight` is uncommitted, with heartbeats while that takes."""
        self._commit()
        while self._queue.weight >= weight:
            if not self._committer.wait(HEARTBEAT_SECONDS):
                self._heartbeats.send()
            self._commit()

    def _end_commits(self) -> None:
        """Commit what has arrived whole, and close. Without heartbeats: the sender may be gone."""
        try:
            self._commit()
            while self._queue.weight:
                self._committer.wait()
                self._commit()
        finally:
            self._queue.keep_partials()  # there are some only if a commit failed unforeseen
            self._committer.close()

    def _handle(self, message: Message) -> None:
        if self._observer:
            tell_names(self._observer, message)
        match message:
            case FileHeader():
                self._receive_file(message, self._channel.body(message.body))
            case DirectoryHeader():
                metadata = Metadata(message.mode, message.mtime_ns)
                self._receive_bodiless(NewDirectory(message.file_name, metadata))
            case SymlinkHeader():
                self._receive_bodiless(NewSymlink(message.file_name, message.target))
            case Offer():
                self._answer(message)
            case Run():
                self._begin_run(message)
            case Working():
                pass  # the sender is alive: its arrival has ended the wait
            case Refusal() | Listing() if self._observer:  # of the one that was asked to send
                tell_answer(self._observer, message)
            case Error():
                raise from_peer(message.code, message.message, retryable=message.retryable)
            case _:
                raise ProtocolError(f"a {message.type} message where a file was expected")

    def _begin_run(self, run: Run) -> None:
        """From here on, what is confirmed is recorded for the run before its sender is told."""
        host = self._peer.host
        self._writer.begin_run(recording.Run(run.run, run.job, host, run.roots, run.excludes))
        self._recorder = RunRecorder(self._writer)
        self._planner.record_in(self._recorder)

    def _answer(self, offer: Offer) -> None:
        self._heartbeats.enable()  # a sender that makes offers knows them; others need not
        for plan in self._planner.plans(offer):
            self._channel.send(plan)
        self._channel.flush()

    # What arrives

    def _receive_bodiless(self, item: NewDirectory | NewSymlink) -> None:
        try:
            names.check(item.name)
            if isinstance(item, NewSymlink):
                names.check_target(item.target)
            self._writer.count(item.name)
        except Refused as error:
            self._receipts.refuse(item.name, error)
        else:
            self._enqueue(ArrivedItem(item, time.monotonic()))

    def _receive_file(self, header: FileHeader, body: Body) -> None:
        if self._receipts.has_refused(header):
            self._bodies.drain(body)
            return
        try:
            if self._observer:
                self._observer.arrived(body.remaining)
            if header.is_whole and body.remaining <= INLINE_BYTES:
                began = time.monotonic()
                partial = self._uploads.receive_whole(header, body.view())
                self._enqueue_file(header, partial, began)
            else:
                self._receive_part(header, body)
        except Refused as error:
            self._uploads.roll_back(header.file_name, error)
            self._receipts.refuse(header.file_name, error)
            self._bodies.drain(body)

    def _receive_part(self, header: FileHeader, body: Body) -> None:
        upload = self._uploads.upload_for(header)
        self._bodies.append(body, upload)
        upload.verify(header)
        if header.is_last:
            self._uploads.finish(header)
            self._enqueue_file(header, upload.partial, upload.began)

    def _enqueue_file(self, header: FileHeader, partial: Partial, began: float) -> None:
        item = NewFile(header.file_name, partial)
        self._enqueue(ArrivedItem(item, began, partial.size, {header.algorithm: header.digest}))

    def _enqueue(self, arrived: ArrivedItem) -> None:
        self._queue.add(arrived)
        if len(self._queue.pending) >= BATCH_ITEMS:
            self._commit()
        if self._queue.weight >= FULL_WEIGHT:
            self._commit_below(FULL_WEIGHT)
