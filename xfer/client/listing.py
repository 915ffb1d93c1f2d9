"""A list: what a receiver holds, line by line as it comes, until it has said all.

    connect, List ──▶  the receiver's process reads its store
    lines         ◀──  Listing, Working, Listing, … a last one for each name, Done

No more than one message is held. Until the first line has been handed on, a session that
fails is tried again: after that, lines would come twice.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Literal

from msgspec import Struct, field

from xfer import names
from xfer.client.retries import Attempts, RetryFor
from xfer.errors import ProtocolError, Refused, XferError, from_peer
from xfer.sending.observer import Observer
from xfer.source.any_listing import AnyFound
from xfer.source.directory_sizes import Unlisted
from xfer.source.listing import ALL, Listed, Wanted
from xfer.storage.reading import HeldKind, SnapshotCounts, SnapshotInfo
from xfer.wire.cancel import CancelToken
from xfer.wire.channel import Channel, expected
from xfer.wire.keepalive import StallLimit
from xfer.wire.messages import (
    Done,
    List,
    ListedName,
    ListedSnapshot,
    Listing,
    Message,
    Refusal,
    Working,
)
from xfer.wire.messages.offers import in_frames

OpenChannel = Callable[[], Channel]
"""Opens a channel to a side that answers `list`. Raises XferError when that fails."""


class ListJob(Struct, frozen=True):
    """Which names to list (see `restored.normalized`), and what of them."""

    names: tuple[str, ...]
    wanted: Wanted = Wanted()
    retry_for: RetryFor = field(default_factory=RetryFor)
    cancel: CancelToken | None = None


def list_with(open_channel: OpenChannel, job: ListJob, observer: Observer) -> Iterator[AnyFound]:
    """What there is of the names of `job`. `observer` is told of pauses and of heartbeats.

    Raises the error that ended the last attempt early.
    """
    attempts = Attempts(job.retry_for, observer, job.cancel)
    lines: Iterator[AnyFound] = iter(())
    first: AnyFound | None = None

    def attempt() -> XferError | None:
        nonlocal lines, first
        try:
            channel = open_channel()
            attempts.reached()
            lines = _session(channel, job, observer)
            first = next(lines, None)
        except XferError as error:
            return error
        return None

    if error := attempts.run(attempt):
        raise error
    if first is not None:
        yield first
        yield from lines


def _session(channel: Channel, job: ListJob, observer: Observer) -> Iterator[AnyFound]:
    """The lines of one connection, which is closed in the end, or with this generator."""
    with closing(channel):
        try:
            for message in _request(job):
                channel.send(message)
            channel.flush()
            for name in job.names:
                yield from _lines(channel, _Line(name, job.wanted), observer)
            expected(channel.receive(), Done)
        except ProtocolError as error:
            channel.end_with(error)
            raise


def _request(job: ListJob) -> Iterator[List]:
    """The messages that ask for everything, in as many as the names take."""
    what: Literal["files", "versions", "snapshots"] = "versions" if job.wanted.older else "files"
    if job.wanted.snapshots:
        what = "snapshots"
    groups = list(in_frames(job.names, str))
    for number, some in enumerate(groups, 1):
        yield List(
            tuple(some),
            what,
            job.wanted.at,
            recursive=job.wanted.recursive,
            itself=job.wanted.itself,
            more=number < len(groups),
        )


def _lines(channel: Channel, expects: "_Line", observer: Observer) -> Iterator[AnyFound]:
    """Those of one name, which end with a listing that is the last."""
    stall = StallLimit()
    is_last = False
    while not is_last:
        message = channel.receive()
        if isinstance(message, Working):
            stall.check()
            observer.waiting(message.file_name, message.done, message.size)
        elif isinstance(message, Refusal):
            stall.renew()
            yield expects.refused(message)
        else:
            listing = _listing(message)
            stall.renew() if listing.files or listing.snapshots else stall.check()
            snapshots = map(snapshot_info, listing.snapshots)
            if expects.wanted.snapshots:
                yield from snapshots
            elif listing.snapshots:
                observer.chosen(listing.snapshots)
            for line in listing.files:
                yield expects.listed(line)
            is_last = listing.last


def snapshot_info(listed: ListedSnapshot) -> SnapshotInfo:
    """A snapshot as the receiver lists it."""
    counts = None
    if listed.names is not None:
        counts = SnapshotCounts(
            listed.names, listed.files, listed.bytes, listed.new, listed.changed, listed.gone
        )
    return SnapshotInfo(
        listed.key_id,
        listed.job,
        listed.stamp,
        listed.complete,
        listed.held,
        listed.damaged,
        counts,
    )


def _listing(message: Message) -> Listing:
    if isinstance(message, Done):
        raise ProtocolError("the receiver ended its list before it had answered for every name")
    return expected(message, Listing)


class _Line(Struct, frozen=True):
    """What may come for one name: nothing that was not asked for, and no unsafe name."""

    asked: str
    wanted: Wanted

    def listed(self, line: ListedName) -> Listed:
        self._require(line.file_name)
        if bool(line.replaced) is not self.wanted.older:
            raise ProtocolError("the receiver listed older contents for present ones, or these")
        return Listed(
            line.file_name, HeldKind(line.kind), line.size, line.mtime_ns, line.mode, line.target,
            line.replaced,
        )  # fmt: skip

    def refused(self, refusal: Refusal) -> Unlisted:
        if refusal.file_name != self.asked:
            self._require(refusal.file_name)
        error = from_peer(refusal.code, refusal.message, retryable=refusal.retryable)
        return Unlisted(refusal.file_name, error)

    def _require(self, name: str) -> None:
        if not self._covers(name):
            raise ProtocolError("the receiver listed a name that was not asked for")
        if name != ALL:
            try:
                names.check(name)
            except Refused as error:
                raise ProtocolError(f"the receiver listed an {error.message}") from error

    def _covers(self, name: str) -> bool:
        if name == self.asked:
            return True
        if self.wanted.itself or name == ALL:
            return False
        return self.asked == ALL or name.startswith(f"{self.asked}/")
