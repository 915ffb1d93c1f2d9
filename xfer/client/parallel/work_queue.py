"""The work of one job that several connections share, and whether it is over.

    walk ──▶ Lookahead ──next_work──▶ Consumer ──▶ SendSession     one of each a connection
                 ▲                       │
                 └──give_back, leave─────┴──finished──▶ results

Each connection takes more when it has little left. What a lost connection had
not begun goes back, and another one takes it.
"""

import threading
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from xfer.client.parallel.lookahead import Lookahead
from xfer.errors import XferError
from xfer.sending.batches import OPEN_DIRECTORIES
from xfer.sending.observer import Result, Results
from xfer.source.tree import Found

MIN_WEIGHT: Final = 1024 * 1024
"""Less work than that is not worth another connection, or another round trip."""
MAX_WEIGHT: Final = 32.0 * 1024 * 1024
"""What one connection has on offer at most, since no other can take it then.

A float, because it is doubled without end: that gives infinity some day, where
an integer would be too large to divide.
"""


class ConsumerState(Struct):
    """What decides how much a connection is given. Guarded by the queue's `changed`."""

    is_first: bool
    """The first connection takes standard input, and stays until all is done."""
    is_accepted: bool
    """False while the receiver has opened, but may still turn the connection away as one too
    many. Such a connection gets files only, since these can be given back."""
    max_weight: float = MAX_WEIGHT
    """How much it may have on offer."""


class WorkQueue:
    """Hands out what `entries` finds, and passes results on to `results`."""

    def __init__(self, entries: Iterable[Found], connections: int, results: Results) -> None:
        self.changed = threading.Condition()
        """Guards everything here and the lookahead, and wakes those that wait for a change.
        `results` is called with it held, so that results come one at a time."""
        self.results = results
        self.ended_by: XferError | None = None
        """What ended the job for all connections."""
        self._lookahead = Lookahead(entries)
        self._connections = connections
        self._expected = 1
        """Connections that are being opened."""
        self._present = 0
        """Connections with a session."""
        self._taking = 0
        """Of these, the ones that still take work."""
        self._outstanding = 0
        """Entries that were handed out and are not finished."""
        self._given_back: dict[str, Result] = {}
        """By name: how an entry failed that was given back and not taken since."""
        self._has_first = True
        self._was_lost = False
        """Whether something was begun, and lost with its connection: another attempt is due."""
        self._is_over = False

    # For `ParallelSessions`

    def expect_connections(self) -> int:
        """How many connections there is work for; each then calls `join` or `cancel_expected`."""
        with self.changed:
            self._lookahead.fill()
            self._expected = self._connections
            if self._lookahead.walk_ended:
                worth = self._lookahead.weight // MIN_WEIGHT
                self._expected = max(1, min(self._connections, self._lookahead.files, worth))
            return self._expected

    def join(self) -> bool:
        """An expected connection is open. Returns whether there may be work for it."""
        with self.changed:
            self._expected -= 1
            if not self._is_over:
                self._taking += 1
                self._present += 1
            return not self._is_over

    def cancel_expected(self) -> None:
        """An expected connection could not be opened."""
        with self.changed:
            self._expected -= 1
            self.changed.notify_all()

    def wait_until_all_left(self) -> None:
        """Wait until no session is left. Connections being opened count until the job is over."""
        with self.changed:
            self.changed.wait_for(
                lambda: not self._present and (self._is_over or not self._expected)
            )

    def end(self, error: XferError | None = None) -> None:
        """Hand out nothing more, because of `error` if there is one."""
        with self.changed:
            self._is_over = True
            self.ended_by = self.ended_by or error
            self.changed.notify_all()

    def is_done(self) -> bool:
        """Whether everything was sent and finished. Call it once all have left.

        Passes on how those entries failed that no connection has taken again.
        """
        with self.changed:
            for result in self._given_back.values():
                self.results.finished(result)
            left = len(self._lookahead) or not self._lookahead.walk_ended
            return not (left or self._was_lost or self._outstanding)

    # For consumers, which hold `changed` when they call these

    def next_work(self, consumer: ConsumerState) -> list[Found] | None:
        """Work for `consumer`. Empty if there is none for the moment, None if there never will."""
        if self._is_over:
            return None
        self._lookahead.fill()
        if not self._has_first and self._lookahead.pop_stream():
            self._was_lost = True  # only the first connection takes standard input
        taken = self._pop_for(consumer)
        for found in taken:
            self._given_back.pop(found.name, None)
        self._outstanding += len(taken)
        if taken:
            return taken
        if self._lookahead.walk_ended and not self._outstanding and not len(self._lookahead):
            self.end()
        return None if self._may_close(consumer) else []

    def has_news(self, consumer: ConsumerState) -> bool:
        """Whether `next_work` would return something else than an empty list."""
        return (
            self._lookahead.has_more(files_only=not consumer.is_accepted)
            or (consumer.is_first and self._lookahead.has_stream)
            or not self._outstanding
            or self._may_close(consumer)
        )

    def max_weight(self, consumer: ConsumerState) -> float:
        """How much `consumer` may have on offer: its part of what is left, within limits."""
        part = self._lookahead.weight / self._connections
        return max(MIN_WEIGHT, min(part, consumer.max_weight))

    @property
    def max_directories(self) -> int:
        """How many directories a connection may hold open: the more connections, the fewer each."""
        return max(2, OPEN_DIRECTORIES // self._connections)

    def finished(self, result: Result) -> None:
        """One entry is finished: pass its result on."""
        error = result.error
        if result.with_session and self.ended_by:
            result = replace(result, error=self.ended_by)
        self.results.finished(result)
        self._outstanding -= 1
        if error and error.retryable:
            self._was_lost |= result.with_session
        else:
            self._lookahead.finished(result.name)
        self.changed.notify_all()

    def give_back(self, result: Result) -> bool:
        """Keep the result of an entry that was not begun, if another connection may try it."""
        error = result.error
        if not (error and error.retryable and result.with_session) or self.ended_by:
            return False
        self._given_back[result.name] = result
        return True

    def stop_taking(self) -> None:
        """A consumer takes nothing more, and has yet to finish what it took."""
        self._taking -= 1
        self.changed.notify_all()

    def leave(self, consumer: ConsumerState, unfinished: Iterable[Found | None]) -> None:
        """A consumer's session has ended with these unfinished; None stands for one it had begun.

        What was not begun is for the others.
        """
        for found in unfinished:
            self._outstanding -= 1
            if found:
                self._lookahead.add(found)
            else:
                self._was_lost = True
        self._present -= 1
        self._has_first &= not consumer.is_first
        self.changed.notify_all()

    def _pop_for(self, consumer: ConsumerState) -> list[Found]:
        if consumer.is_first and (stream := self._lookahead.pop_stream()):
            return [stream]
        part = self._lookahead.weight / (2 * self._connections)
        return self._lookahead.pop(
            max(MIN_WEIGHT, min(part, consumer.max_weight / 2)),
            self.max_directories,
            files_only=not consumer.is_accepted,
        )

    def _may_close(self, consumer: ConsumerState) -> bool:
        """True if this connection may close: others hold what is left.

        The directories that are sent after that need one connection only.
        """
        others_finish = self._lookahead.walk_ended and self._taking > 1 and not consumer.is_first
        return self._is_over or others_finish
