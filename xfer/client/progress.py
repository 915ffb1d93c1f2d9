"""What a program that calls `xfer.send` is told meanwhile, and what is kept for it.

job, sessions ──▶ Collector ──▶ the caller's Observer, or
                      │         CallbackObserver ──▶ the caller's function
                      └──▶ receipts, failures
"""

import threading
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from xfer.errors import Cancelled, UsageError, XferError
from xfer.sending.observer import SKIPPED, Observer, Result
from xfer.wire.keepalive import Progress
from xfer.wire.messages import ListedSnapshot, SnapshotMade


class SendProgress(Struct, frozen=True):
    """How far a send is. Counts are of files, directories and links.

    name      what is being sent
    done      bytes of content that this attempt has sent, or need not send; an attempt
              that follows a lost connection begins at 0 again
    sent      bytes of content sent, in all attempts
    finished  how many have a receipt, or are unchanged
    failed    how many have failed for good
    """

    name: str = ""
    done: int = 0
    sent: int = 0
    finished: int = 0
    failed: int = 0


class CallbackObserver(Observer):
    """Calls `callback` with a SendProgress whenever that changes: one call at a time."""

    def __init__(self, callback: Callable[[SendProgress], object]) -> None:
        self._callback = callback
        self._lock = threading.Lock()
        """Guards the progress, which several threads change, and is held during the callback."""
        self._progress = SendProgress()

    def sending(self, name: str) -> None:
        with self._lock:
            self._tell(replace(self._progress, name=name))

    def sent(self, size: int) -> None:
        with self._lock:
            now = self._progress
            self._tell(replace(now, done=now.done + size, sent=now.sent + size))

    def skipped(self, size: int) -> None:
        with self._lock:
            self._tell(replace(self._progress, done=self._progress.done + size))

    def pausing(self, error: XferError, seconds: float, until: float) -> None:  # noqa: ARG002
        with self._lock:
            self._tell(replace(self._progress, done=0))

    def finished(self, result: Result) -> None:
        with self._lock:
            now = self._progress
            if result.outcome == SKIPPED:
                return
            if result.error:
                self._tell(replace(now, failed=now.failed + 1))
            else:
                self._tell(replace(now, finished=now.finished + 1))

    def _tell(self, progress: SendProgress) -> None:
        self._progress = progress
        self._callback(progress)


def observer_of(progress: Observer | Callable[[SendProgress], object] | None) -> Observer | None:
    """The observer that `progress` is, or that calls it. UsageError where it is neither."""
    if progress is None or isinstance(progress, Observer):
        return progress
    if callable(progress):
        return CallbackObserver(progress)
    raise UsageError("progress is an xfer.Observer or a function")


class Collector(Observer):
    """Keeps every receipt and failure, and tells `observer` all if there is one.

    An exception of the observer ends the job: it is kept in `raised`, and this
    raises Cancelled in its place, from then on each time it is told something.
    """

    def __init__(self, observer: Observer | None) -> None:
        self.receipts: list[Result] = []
        self.failures: list[Result] = []
        self.raised: Exception | None = None
        """Set once or, by two threads at once, twice: either will do."""
        self._observer = observer

    def sending(self, name: str) -> None:
        if self._observer:
            self._tell(self._observer.sending, name)

    def sent(self, size: int) -> None:
        if self._observer:
            self._tell(self._observer.sent, size)

    def skipped(self, size: int) -> None:
        if self._observer:
            self._tell(self._observer.skipped, size)

    def resumed(self, name: str, offset: int) -> None:
        if self._observer:
            self._tell(self._observer.resumed, name, offset)

    def waiting(self, name: str, done: int, size: int) -> None:
        if self._observer:
            self._tell(self._observer.waiting, name, done, size)

    def checking(self, progress: Progress) -> None:
        if self._observer:
            self._tell(self._observer.checking, progress)

    def pausing(self, error: XferError, seconds: float, until: float) -> None:
        if self._observer:
            self._tell(self._observer.pausing, error, seconds, until)

    def chosen(self, snapshots: Sequence[ListedSnapshot]) -> None:
        if self._observer:
            self._tell(self._observer.chosen, snapshots)

    def snapshot_made(self, job: str, made: SnapshotMade) -> None:
        if self._observer:
            self._tell(self._observer.snapshot_made, job, made)

    def finished(self, result: Result) -> None:
        if result.outcome != SKIPPED:
            (self.failures if result.error else self.receipts).append(result)
        if self._observer:
            self._tell(self._observer.finished, result)

    def _tell(self, tell: Callable[..., None], *about: object) -> None:
        if self.raised is None:
            try:
                tell(*about)
            except Exception as error:  # noqa: BLE001 (`xfer.send` raises it again)
                self.raised = error
        if self.raised:
            raise Cancelled("what was told of the progress raised an exception")
