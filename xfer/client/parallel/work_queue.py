"""One job over several connections: who sends what, and what becomes of it.

Each connection is a consumer, and takes more work when it has little left. One
lock is around all of it, the observer's calls too: an observer need not know
that there are several threads.
"""

import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from xfer.client.parallel.lookahead import Lookahead, weight
from xfer.errors import XferError
from xfer.outcomes import Outcome
from xfer.sending.batches import OPEN_DIRECTORIES, Batch, directories
from xfer.sending.observer import Observer, Result
from xfer.source.tree import Found
from xfer.wire.keepalive import HEARTBEAT_SECONDS, Progress
from xfer.wire.messages.offers import in_frames

_LEAST: Final = 1024 * 1024
"""Weight below which work is not worth another connection, or another round trip."""
_MOST: Final = 32.0 * 1024 * 1024
"""Weight that one connection has on offer at most, since no other can take it then.

Doubled without end, a float is infinite some day, and an integer too large to divide.
"""
_OFFERS_AHEAD: Final = 8


class WorkQueue:
    """The work of one job, and whether it is over."""

    def __init__(self, entries: Iterable[Found], connections: int, observer: Observer) -> None:
        self.changed = threading.Condition()
        self.lookahead = Lookahead(entries)
        self.observer = observer
        self.connections = connections
        self.ended_by: XferError | None = None
        """What ended it for all connections."""
        self._has_first = True
        self._was_lost = False
        self._put_off: dict[str, Result] = {}
        self._is_over = False
        self._outstanding = 0
        self._taking = 0
        self._expected = 1
        self._present = 0

    def expect_connections(self) -> int:
        """For how many there is work, as far as can be seen; each comes, or is `not_coming`."""
        with self.changed:
            self.lookahead.fill()
            self._expected = self.connections
            if self.lookahead.is_all:
                worth = self.lookahead.weight // _LEAST
                self._expected = max(1, min(self.connections, self.lookahead.files, worth))
            return self._expected

    def consumer(self, *, is_first: bool = False) -> "Consumer | None":
        """For a connection that was expected; None when there is nothing left to do."""
        with self.changed:
            self._expected -= 1
            if self._is_over:
                return None
            self._taking += 1
            self._present += 1
            return Consumer(self, is_first=is_first)

    def not_coming(self) -> None:
        """One that was expected is not."""
        with self.changed:
            self._expected -= 1
            self.changed.notify_all()

    def wait_until_all_left(self) -> None:
        """Until nobody is at work any more; who would find nothing to do is not waited for."""
        with self.changed:
            self.changed.wait_for(
                lambda: not self._present and (self._is_over or not self._expected)
            )

    def end(self, error: XferError | None = None) -> None:
        """Nobody takes anything any more, because of `error` if there is one."""
        with self.changed:
            self._is_over = True
            self.ended_by = self.ended_by or error
            self.changed.notify_all()

    def is_done(self) -> bool:
        """Whether everything was sent and finished; tells what was put off, if it was not."""
        with self.changed:
            for result in self._put_off.values():
                self.observer.finished(result)
            left = len(self.lookahead) or not self.lookahead.is_all
            return not (left or self._was_lost or self._outstanding)

    # What consumers do, with the lock held

    def next_work(self, consumer: "Consumer") -> list[Found] | None:
        """Work for `consumer`; none for the moment, or (None) never again."""
        if self._is_over:
            return None
        self.lookahead.fill()
        if self.lookahead.stream and not self._has_first:
            self.lookahead.stream, self._was_lost = None, True
        if consumer.is_first and (stream := self.lookahead.stream):
            self.lookahead.stream = None
            taken: list[Found] = [stream]
        else:
            most = min(self.lookahead.weight / (2 * self.connections), consumer.allowance / 2)
            taken = self.lookahead.pop(
                max(_LEAST, most), self.most_directories, files_only=not consumer.is_accepted
            )
        for found in taken:
            self._put_off.pop(found.name, None)
        self._outstanding += len(taken)
        if taken:
            return taken
        if self.lookahead.is_all and not self._outstanding and not len(self.lookahead):
            self.end()
        return None if self._is_superfluous(consumer) else []

    def has_news(self, consumer: "Consumer") -> bool:
        """Whether `next_work` would give `consumer` something, or send it away."""
        files_only = not consumer.is_accepted
        return (
            self.lookahead.has_more(files_only=files_only)
            or (consumer.is_first and self.lookahead.stream is not None)
            or not self._outstanding
            or self._is_superfluous(consumer)
        )

    def _is_superfluous(self, consumer: "Consumer") -> bool:
        """For what others have taken, and the directories after that, one is enough to wait."""
        waits_for_others = self.lookahead.is_all and self._taking > 1 and not consumer.is_first
        return self._is_over or waits_for_others

    @property
    def most_directories(self) -> int:
        """How many a connection may hold open: the more connections, the fewer each."""
        return max(2, OPEN_DIRECTORIES // self.connections)

    def finished(self, result: Result) -> None:
        error = result.error
        if error and error.ends_session and self.ended_by:
            result = replace(result, error=self.ended_by)
        self.observer.finished(result)
        self._outstanding -= 1
        if error and error.retryable:
            self._was_lost |= error.ends_session
        else:
            self.lookahead.finished(result.name)
        self.changed.notify_all()

    def put_off(self, result: Result) -> bool:
        """Whether another connection may try it, instead of this being the end of it."""
        error = result.error
        if not error or not (error.ends_session and error.retryable) or self.ended_by:
            return False
        self._put_off[result.name] = result
        return True

    def leave(self, consumer: "Consumer", outstanding: Iterable[Found | None]) -> None:
        """`consumer` takes nothing more; what it had not begun is for the others."""
        for found in outstanding:
            self._outstanding -= 1
            if found:
                self.lookahead.add(found)
            else:
                self._was_lost = True
        self._present -= 1
        self._has_first &= not consumer.is_first
        self.changed.notify_all()

    def stops_taking(self) -> None:
        self._taking -= 1
        self.changed.notify_all()


class Consumer(Observer):
    """What one connection takes of the queue: its `Batches`, and its observer."""

    def __init__(self, queue: WorkQueue, *, is_first: bool) -> None:
        self.is_first = is_first
        self.is_accepted = is_first
        """Whether the receiver has not only opened, but has not turned it away since."""
        self.allowance: float = _MOST
        self._queue = queue
        self._is_taking = True
        self._outstanding: dict[str, Found | None] = {}
        """By name what was taken; None for what was begun, and cannot be given back."""

    # What there is to send

    def __iter__(self) -> Iterator[Batch]:
        while (taken := self._next_work()) is not None:
            yield from in_frames(taken, lambda found: found.name)
            if not taken:
                yield []
                self._wait()

    def _next_work(self) -> list[Found] | None:
        with self._queue.changed:
            taken = self._queue.next_work(self)
            for found in taken or ():
                self._outstanding[found.name] = found
            if taken is None:
                self._stop_taking()
            return taken

    def _wait(self) -> None:
        """Until there may be something to do, or until a heartbeat is due."""
        with self._queue.changed:
            if not self._queue.changed.wait_for(
                lambda: self._queue.has_news(self), HEARTBEAT_SECONDS
            ):
                self.is_accepted = True  # else it would have been said by now

    def _stop_taking(self) -> None:
        if self._is_taking:
            self._is_taking = False
            self._queue.stops_taking()

    def is_full(self, offered: Collection[Batch]) -> bool:
        waiting = sum(weight(found) for batch in offered for found in batch)
        left = self._queue.lookahead.weight / self._queue.connections
        return (
            len(offered) > _OFFERS_AHEAD
            or waiting > max(_LEAST, min(left, self.allowance))
            or directories(offered) > self._queue.most_directories
        )

    def close(self) -> None:
        """The connection has gone: what it took and did not begin is for the others."""
        with self._queue.changed:
            self._stop_taking()
            outstanding, self._outstanding = self._outstanding, {}
            self._queue.leave(self, outstanding.values())

    # What the session tells

    def sending(self, name: str) -> None:
        with self._queue.changed:
            self.is_accepted = True
            if name in self._outstanding:
                self._outstanding[name] = None
            self._queue.observer.sending(name)

    def sent(self, size: int) -> None:
        with self._queue.changed:
            self.allowance = _MOST
            self._queue.observer.sent(size)

    def skipped(self, size: int) -> None:
        with self._queue.changed:
            self._queue.observer.skipped(size)

    def resuming(self, name: str, offset: int) -> None:
        with self._queue.changed:
            self._queue.observer.resuming(name, offset)

    def waiting(self, name: str, done: int, size: int) -> None:
        with self._queue.changed:
            self._queue.observer.waiting(name, done, size)

    def checking(self, progress: Progress) -> None:
        with self._queue.changed:
            self._queue.observer.checking(progress)

    def finished(self, result: Result) -> None:
        with self._queue.changed:
            if self._outstanding.get(result.name) and self._queue.put_off(result):
                return
            if result.outcome == Outcome.UNCHANGED and not result.digest:
                self.allowance *= 2  # it cost no more than the question
            self._outstanding.pop(result.name, None)
            self._queue.finished(result)
