"""Commits beside the receiving: what arrives during one commit goes into the next.

So one file is committed at once, ten thousand share as many flushes as the
disk makes in the time they take to arrive, and whoever receives never waits
for a disk. Whatever of a commit does wait, for a disk or for another session,
is done in a second thread, unless the last time there was hardly any waiting;
then that thread only looks after the caller's, and sends heartbeats should
it take long after all. The rest stays in the caller's: two threads that both
make many short system calls only take the interpreter from each other.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from xfer.errors import ConnectionLost, Refused
from xfer.outcomes import Outcome
from xfer.receiving.commit_queue import EMPTY, NO_BATCH, Arrived, CommitQueue
from xfer.storage.contract import CommitSteps, NewFile, StoreWriter
from xfer.storage.os_errors import refusal
from xfer.system.background import BackgroundThread, wait_for
from xfer.wire.keepalive import Watchdog

_HARDLY: Final = 0.0005
"""Seconds of waiting that take less than it takes to hand them to another thread."""

Committed = Sequence[tuple[Arrived, Outcome | Refused]]


class Committer:
    """The commits of one session, one after the other.

    `answer` is called after each batch with what became of its items, and `beat`,
    from any thread, when whoever called has to wait for long in here. Once a
    commit can go on, something can be read from `descriptor`; whoever waits for
    more to arrive waits for that, too, and calls `resume`.
    """

    def __init__(
        self,
        writer: StoreWriter,
        queue: CommitQueue,
        answer: Callable[[Committed], None],
        beat: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._queue = queue
        self._answer = answer
        self._batch = NO_BATCH
        self._steps: CommitSteps | None = None
        self._awaited: Future[None] | None = None
        self._waits_hardly = False
        self._background = BackgroundThread()
        self._watchdog = Watchdog(self._background, beat)
        try:
            self.descriptor, self._wake = os.pipe()
        except OSError as error:
            raise refusal(error) from error

    def hurry(self) -> None:
        """Nothing more is coming for the moment: commit what there is."""
        self.resume()
        while self._steps is None and self._queue.pending:
            self._begin()

    def resume(self) -> None:
        """Carry on with a commit that had to wait, if it need not any more."""
        if self._steps and self._awaited and self._awaited.done():
            self._run(self._steps)

    def wait_below(self, weight: int, seconds: float) -> bool:
        """Wait until less than `weight` is uncommitted; False if nothing happens for so long."""
        self.hurry()
        while self._awaited and self._queue.weight >= weight:
            if not wait_for(self._awaited, seconds):
                return False
            self.hurry()
        return True

    def close(self) -> None:
        """Commit what has arrived whole, whether anybody still hears of it or not."""
        try:
            while not self.wait_below(EMPTY, 60.0):
                pass
        finally:
            for (
                arrived,
                _,
            ) in self._queue.pending:  # a commit has failed in a way that nobody foresaw
                if isinstance(arrived.item, NewFile):
                    arrived.item.partial.keep()
            self._watchdog.end()
            self._background.close()
            os.close(self.descriptor)
            os.close(self._wake)

    def _begin(self) -> None:
        self._batch = self._queue.next_batch()
        self._steps = self._writer.commit([arrived.item for arrived in self._batch.arrived])
        self._run(self._steps)

    def _run(self, steps: CommitSteps) -> None:
        """Carry on until something has to be waited for, or all is over."""
        try:
            if self._awaited:
                os.read(self.descriptor, 1)
                self._awaited.result()
            while self._waits_hardly:
                self._watchdog.watch(functools.partial(self._wait_for, next(steps)))
            self._watchdog.end()
            self._awaited = self._background.submit(self._wait_for, next(steps))
            self._awaited.add_done_callback(lambda _: os.write(self._wake, b"."))
        except StopIteration as end:
            committed = list(zip(self._ended(), end.value, strict=True))
            with contextlib.suppress(ConnectionLost):  # all is stored; the next try finds it
                self._answer(committed)
        except BaseException:
            steps.close()
            self._ended()
            raise

    def _wait_for(self, work: Callable[[], None]) -> None:
        began = time.monotonic()
        work()
        self._waits_hardly = time.monotonic() - began < _HARDLY

    def _ended(self) -> list[Arrived]:
        batch, self._batch = self._batch, NO_BATCH
        self._queue.remove(batch)
        self._awaited = self._steps = None
        return batch.arrived
