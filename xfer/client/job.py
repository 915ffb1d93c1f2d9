"""A job, carried on over as many connections as it takes.

What is retryable is tried again after growing pauses, until nothing has got
any further for `retry_for` seconds; each attempt resumes the one before. What
is not retryable is told at once.
"""

import random
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from msgspec import Struct, field

from xfer.client.completed import CompletedNames
from xfer.client.connect import Target, connect
from xfer.config.defaults import RETRY_SECONDS
from xfer.errors import LocalError, XferError
from xfer.sending.batches import InOrder
from xfer.sending.observer import Observer, Result
from xfer.sending.session import Options, SendSession
from xfer.source import tree
from xfer.source.tree import Entry, Found, Kind
from xfer.wire.keepalive import Progress

MOST_CONNECTIONS: Final = 64
"""That one job may take: a receiver has places for some hundred senders in all."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0


class Job(Struct, frozen=True):
    """What to send, and how. `-` among `paths` is standard input, stored as `stream_name`.

    Up to so many `connections` share the work.
    """

    paths: list[str]
    stream_name: str | None = None
    options: Options = field(default_factory=Options)
    retry_for: float = RETRY_SECONDS
    connections: int = 1


def send_job(target: Target, job: Job, observer: Observer) -> None:
    """Send `job` to `target`, telling `observer` once how each thing ends.

    Raises what can be known before connecting (UsageError, LocalError), and
    what ends the job early.
    """
    tree.check(job.paths, job.stream_name)
    attempts = _Attempts(target, job, observer)
    pauses = _pauses()
    gives_up_at = None
    while error := attempts.once():
        if attempts.got_further or gives_up_at is None:
            gives_up_at = time.monotonic() + job.retry_for
            pauses = _pauses()
        pause = next(pauses)
        if attempts.lost_input or not error.retryable or time.monotonic() + pause > gives_up_at:
            attempts.give_up()
            return
        observer.pausing(error, pause)
        time.sleep(pause)


class _Attempts(Observer):
    """What is finished for good, what failed so far, and how the last attempt ended.

    It stands between the session and the observer, so that one result is told
    for each thing however often it is tried.
    """

    def __init__(self, target: Target, job: Job, observer: Observer) -> None:
        self.got_further = False
        self._target = target
        self._job = job
        self._observer = observer
        self._completed = CompletedNames()
        self._owed: dict[str, Result] = {}
        self._failure: XferError | None = None
        self._ended: XferError | None = None
        self.lost_input = False
        self._stands_at: dict[str, int] = {}

    def once(self) -> XferError | None:
        """Try what is left. Why it is worth trying again, or not; None when all is done."""
        self.got_further = False
        self._ended = None
        self._failure = None
        try:
            self._send_what_is_left(self._job.options, self._job.connections)
        except XferError as error:
            self._ended = error
        return self._ended or self._failure

    def _send_what_is_left(self, options: Options, connections: int) -> None:
        open_channel = partial(connect, self._target, options.algorithm)
        if connections == 1:
            SendSession(open_channel(), options, self).run(InOrder(self._left()))
        else:
            # Few need these, and a start should be quick.
            from xfer.client.parallel.sessions import ParallelSessions  # noqa: PLC0415
            from xfer.client.parallel.work_queue import WorkQueue  # noqa: PLC0415

            ParallelSessions(
                open_channel, options, WorkQueue(self._left(), connections, self)
            ).run()

    def give_up(self) -> None:
        """Tell what failed. Raises what ended the last session early."""
        for result in self._owed.values():
            self._observer.finished(result)
        if self._ended and self.lost_input and self._ended.retryable:
            self._ended.add("standard input cannot be read twice, so it was not tried again")
        if self._ended:
            raise self._ended

    def _left(self) -> Iterator[Found]:
        entries = tree.walk(self._job.paths, self._job.stream_name)
        if not self._completed and not self._owed:
            return self._all(entries)
        return self._all(self._incomplete(entries))

    def _all(self, entries: Iterable[Found]) -> Iterator[Found]:
        for entry in entries:
            self.lost_input |= _is_stream(entry)  # what is read from it is gone
            yield entry

    def _incomplete(self, entries: Iterable[Found]) -> Iterator[Found]:
        gone = dict.fromkeys(self._owed)
        changed: set[str] = set()  # directories that something is sent in, and that come after it
        for entry in entries:
            gone.pop(entry.name, None)
            if self._is_left(entry.name) or entry.name in changed:
                changed.discard(entry.name)
                changed.add(entry.name.rpartition("/")[0])
                yield entry
            elif isinstance(entry, Entry):
                self._observer.skipped(entry.size)
        for name in gone:
            error = LocalError(f"{name} was offered, and is not there any more")
            self.finished(Result(name, self._owed[name].kind, error=error))

    def _is_left(self, name: str) -> bool:
        """A directory can be finished before all that is in it: what is owed was not."""
        return name in self._owed or name not in self._completed

    # What the session tells

    def sending(self, name: str) -> None:
        self._observer.sending(name)

    def sent(self, size: int) -> None:
        self._observer.sent(size)

    def skipped(self, size: int) -> None:
        self._observer.skipped(size)

    def resuming(self, name: str, offset: int) -> None:
        """What the receiver has kept of a file is the proof that an attempt moved something."""
        if offset > self._stands_at.get(name, 0):
            self._stands_at[name] = offset
            self.got_further = True
        self._observer.resuming(name, offset)

    def waiting(self, name: str, done: int, size: int) -> None:
        self._observer.waiting(name, done, size)

    def checking(self, progress: Progress) -> None:
        self._observer.checking(progress)

    def finished(self, result: Result) -> None:
        if result.error and result.error.retryable:
            self._owed[result.name] = result
            self._failure = self._failure or result.error
            return
        self._owed.pop(result.name, None)
        if result.kind is not Kind.DIRECTORY or result.error:
            self._completed.add(result.name)
        elif result.name in self._completed:
            return  # it was sent once more
        else:
            self._completed.add_whole(result.name)
        self.got_further |= not result.error
        self._observer.finished(result)


def _is_stream(entry: Found) -> bool:
    return isinstance(entry, Entry) and entry.kind is Kind.STREAM


def _pauses() -> Iterator[float]:
    """Seconds: twice as long each time, up to a limit, and never all senders at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311 (spread, not secrecy)
        pause = min(2 * pause, _LONGEST_PAUSE)
