"""One connection's part in a job: the work that it takes, and the results of its session."""

from collections.abc import Collection, Iterator

from xfer.client.parallel.lookahead import weight
from xfer.client.parallel.work_queue import MAX_WEIGHT, ConsumerState, WorkQueue
from xfer.outcomes import Outcome
from xfer.sending.batches import OFFERS_AHEAD, Batch, count_directories, in_offers
from xfer.sending.observer import Result, Results
from xfer.source.tree import Entry, Found, Kind
from xfer.wire.keepalive import HEARTBEAT_SECONDS


class Consumer(Results):
    """The `Batches` and the `Results` of one session. It has joined `queue`."""

    def __init__(self, queue: WorkQueue, *, is_first: bool) -> None:
        self._queue = queue
        # What follows is guarded by the queue's `changed`: both threads of the session change it.
        self._state = ConsumerState(is_first=is_first, is_accepted=is_first)
        self._is_taking = True
        self._is_ended = False
        self._unfinished: dict[str, Found | None] = {}
        """By name what was taken; None for what was begun, and cannot be given back."""

    # What there is to send: the sending thread

    def __iter__(self) -> Iterator[Batch]:
        while (taken := self._next_work()) is not None:
            yield from in_offers(taken)
            if not taken:
                yield []
                self._wait()

    def is_full(self, offered: Collection[Batch]) -> bool:
        waiting = sum(weight(found) for batch in offered for found in batch)
        with self._queue.changed:
            max_weight = self._queue.max_weight(self._state)
        return (
            len(offered) > OFFERS_AHEAD
            or waiting > max_weight
            or count_directories(offered) > self._queue.max_directories
        )

    def close(self) -> None:
        """The session has ended: what it took and did not begin is for the others."""
        with self._queue.changed:
            self._stop_taking()
            unfinished, self._unfinished = self._unfinished, {}
            self._queue.leave(self._state, unfinished.values())

    def _next_work(self) -> list[Found] | None:
        with self._queue.changed:
            taken = self._queue.next_work(self._state)
            for found in taken or ():
                self._unfinished[found.name] = found
            if taken is None:
                self._stop_taking()
            return taken

    def _wait(self) -> None:
        """Wait until there may be something to do, or until a heartbeat is due."""
        with self._queue.changed:
            if not self._queue.changed.wait_for(
                lambda: self._is_ended or self._queue.has_news(self._state), HEARTBEAT_SECONDS
            ):
                self._state.is_accepted = True  # to turn it away takes less time than that

    def _stop_taking(self) -> None:
        if self._is_taking:
            self._is_taking = False
            self._queue.stop_taking()

    # What the session tells: both of its threads

    def begun(self, entry: Entry, offset: int) -> None:
        with self._queue.changed:
            self._state.is_accepted = True
            if entry.kind in (Kind.FILE, Kind.STREAM):
                self._state.max_weight = MAX_WEIGHT
            if entry.name in self._unfinished:
                self._unfinished[entry.name] = None
            self._queue.results.begun(entry, offset)

    def finished(self, result: Result) -> None:
        with self._queue.changed:
            if self._unfinished.get(result.name) and self._queue.give_back(result):
                return
            self._state.is_accepted |= not result.with_session
            if result.outcome == Outcome.UNCHANGED and not result.digest:
                self._state.max_weight *= 2  # it took no more than an offer: offer more at once
            self._unfinished.pop(result.name, None)
            self._queue.finished(result)

    def ended(self) -> None:
        with self._queue.changed:
            self._is_ended = True
            self._queue.changed.notify_all()
