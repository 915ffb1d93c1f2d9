"""What a session and a job tell: how far they are, and how each thing ended.

    SendSession ──progress──────────────────────────▶ ProgressSink (a display)
         └──────results──▶ the work queue, the job ──▶ Observer.finished

Progress goes straight to the display. Results pass the job, which keeps back
what it tries again, and with several connections the work queue before it.
"""

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct

from xfer.errors import XferError
from xfer.source.tree import Entry, Kind
from xfer.wire.keepalive import Progress
from xfer.wire.messages import ListedSnapshot, SnapshotMade

SKIPPED: Final = "skipped"
"""The outcome of what is not sent and is no failure: a FIFO, a socket, a device below a path."""


class Result(Struct, frozen=True):
    """How one thing that was to be sent ended: with an outcome, or with an error.

    `outcome` is one that a receipt has, or SKIPPED, for the reason in `message`.
    `size` in bytes and `digest` as hex, for files that were stored, or whose contents
    were compared: else neither side has read what is unchanged. `by_time` is true
    of a file that is unchanged by size and time, whose content nobody looked at,
    and `differed` of one for which the receiver had other content although these agreed.
    `with_session` is true if it failed only because its session ended. `previous_host`
    is the machine that last wrote this name, if it was another one.
    """

    name: str
    kind: Kind
    size: int = 0
    algorithm: str = ""
    digest: str = ""
    outcome: str = ""
    durable: bool = True
    error: XferError | None = None
    with_session: bool = False
    message: str = ""
    by_time: bool = False
    differed: bool = False
    previous_host: str = ""


def only_error(something_went: bool, errors: Collection[XferError]) -> XferError | None:
    """The one error that stands for the whole job; None where part of it went, or they differ."""
    if something_went or len({error.exit_code for error in errors}) != 1:
        return None
    return next(iter(errors))


class ProgressSink:
    """Receives the progress of sessions. Both threads of each session call it."""

    def sending(self, name: str) -> None:
        """The session has come to this name."""

    def sent(self, size: int) -> None:
        """So many more bytes of content were sent."""

    def skipped(self, size: int) -> None:
        """So many bytes need not be sent."""

    def resumed(self, name: str, offset: int) -> None:  # noqa: ARG002 (for those who show it)
        """The receiver has so many bytes of this name, and the rest is sent: they are skipped."""
        self.skipped(offset)

    def waiting(self, name: str, done: int, size: int) -> None:
        """The receiver is checking what it has of this name: `done` of `size` bytes."""

    def checking(self, progress: Progress) -> None:
        """This side is reading what the receiver has already, or might have."""


class Results:
    """Receives what a session found out about each name. Both of its threads call it."""

    def begun(self, entry: Entry, offset: int) -> None:
        """The content is sent next, from `offset` (bytes) on; the receiver has what precedes it."""

    def finished(self, result: Result) -> None:
        """Called once for each name of the session."""

    def ended(self) -> None:
        """Nothing more is received in this session, which may have to be noticed during a wait."""


class Observer(ProgressSink):
    """Receives what a job tells its user: progress, pauses and results.

    Make a subclass with the methods that you need. `finished` is called for one
    result at a time, the rest by any thread. All should return soon: a session waits.
    """

    def pausing(self, error: XferError, seconds: float, until: float) -> None:
        """After this error, there will be another attempt in so many seconds.

        If nothing gets any further, the last one is before `until`, in seconds from now.
        """

    def chosen(self, snapshots: Sequence[ListedSnapshot]) -> None:
        """What is got is as these snapshots have it."""

    def snapshot_made(self, job: str, made: SnapshotMade) -> None:
        """All that went has become a snapshot, see `wire.messages.snapshots`."""

    def finished(self, result: Result) -> None:
        """Called once for each name of the job, however often it was tried."""
