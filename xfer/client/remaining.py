"""What is left of a job after each attempt: what failed and can be tried again, what never came."""

import threading
from collections.abc import Iterable, Iterator, Sequence

from xfer.client.completed import CompletedNames
from xfer.errors import LocalError, XferError
from xfer.sending.observer import SKIPPED, Observer, Result, Results
from xfer.source import tree
from xfer.source.tree import Entry, Found, Kind
from xfer.wire.cancel import CancelToken


class RemainingWork(Results):
    """The entries that are left, and the results of all sessions of a job.

    Results that are final go on to `observer`. One that can be tried again is
    kept back, so that each name is told once, however often it is tried.
    `cancel` ends the search for what is left.
    """

    def __init__(
        self,
        paths: Sequence[str],
        stream_name: str | None,
        observer: Observer,
        cancel: CancelToken | None = None,
    ) -> None:
        self._cancel = cancel
        self._paths = paths
        self._stream_name = stream_name
        self._observer = observer
        self._lock = threading.Lock()
        """Guards what follows: results come from both threads of each session, and a sending
        thread walks. It is held while the observer is told, so that this is one at a time."""
        self._completed = CompletedNames()
        self._told = CompletedNames()
        """Names whose result was told already, where all are sent once more."""
        self.confirmed = 0
        """How many different names the receiver has confirmed."""
        self.has_failed = False
        """Whether something has failed for good."""
        self._to_retry: dict[str, Result] = {}
        self._kept_bytes: dict[str, int] = {}
        """By name: how much of it the receiver was known to have, at most."""
        # Read between attempts by the thread of the job, when no session is left to write them:
        self.made_progress = False
        """Whether the last attempt has finished something, or had the receiver keep more of it."""
        self.first_failure: XferError | None = None
        """The first error of the last attempt after which something is to be tried again."""
        self.stream_was_read = False
        """Whether standard input was handed to a session: it cannot be read again."""

    def start_attempt(self) -> None:
        self.made_progress = False
        self.first_failure = None

    def send_again(self) -> None:
        """Let everything be left once more, but tell no result twice."""
        self._told, self._completed = self._completed, CompletedNames()
        for name in self._to_retry:
            self._told.add(name)
        self._to_retry.clear()
        self.confirmed = 0

    def tell_failures(self) -> None:
        """There is no other attempt: tell the observer what was kept back."""
        self.has_failed |= bool(self._to_retry)
        for result in self._to_retry.values():
            if result.name not in self._told:
                self._observer.finished(result)

    def entries(self) -> Iterator[Found]:
        """What is left to send, in the order of a walk."""
        entries = tree.walk(self._paths, self._stream_name)
        if self._completed or self._to_retry:
            entries = self._incomplete(entries)
        for entry in entries:
            self.stream_was_read |= isinstance(entry, Entry) and entry.kind is Kind.STREAM
            yield entry

    def _incomplete(self, entries: Iterable[Found]) -> Iterator[Found]:
        """Those that are left, and the directories that they are in: their times change by it.

        A walk gives a directory after all that is in it, so that its mode and
        time are set last. What failed and is not found any more fails for good.
        """
        with self._lock:
            missing = {name: result.kind for name, result in self._to_retry.items()}
        changed: set[str] = set()
        for entry in entries:
            missing.pop(entry.name, None)
            if self._is_left(entry.name) or entry.name in changed:
                changed.discard(entry.name)
                changed.add(entry.name.rpartition("/")[0])
                yield entry
            elif isinstance(entry, Entry):
                self._observer.skipped(entry.size)
                if self._cancel:
                    self._cancel.check()
        for name, kind in missing.items():
            error = LocalError(f"{name} was offered, and is not there any more")
            self.finished(Result(name, kind, error=error))

    def _is_left(self, name: str) -> bool:
        """A completed directory stands for all that is in it, but what failed is left even so."""
        with self._lock:
            return name in self._to_retry or name not in self._completed

    # What sessions tell

    def begun(self, entry: Entry, offset: int) -> None:
        """Bytes that were sent prove nothing: they may be in a buffer. What the receiver kept of
        an earlier attempt is the proof that this one moved something."""
        if offset:
            with self._lock:
                if offset > self._kept_bytes.get(entry.name, 0):
                    self._kept_bytes[entry.name] = offset
                    self.made_progress = True

    def finished(self, result: Result) -> None:
        with self._lock:
            if result.error and result.error.retryable:
                self._to_retry[result.name] = result
                self.first_failure = self.first_failure or result.error
                return
            self._to_retry.pop(result.name, None)
            if result.kind is not Kind.DIRECTORY or result.error:
                self._completed.add(result.name)
            elif result.name in self._completed:
                return  # it was sent once more, for its time
            else:
                self._completed.add_whole(result.name)
            self.made_progress |= not result.error
            self.has_failed |= result.error is not None
            self.confirmed += not (result.error or result.outcome == SKIPPED)
            if result.name not in self._told:
                self._observer.finished(result)
