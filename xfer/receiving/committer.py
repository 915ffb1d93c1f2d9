"""Runs the commits of one session, while the session goes on receiving.

A store commits a batch in steps (`CommitSteps`, a generator): it does its many
short system calls itself, and yields whatever waits for long, a flush to the
disk or another session's lock, as a function to be called before it goes on:

    session's thread                             background thread
    next(steps) opens directories ── flush of bytes ──> waits for the disk
    receives more files                                 │
    its poll ends <─────────── a byte in a pipe ────────┘
    next(steps) links the names ──── flush of names ──> waits for the disk
    receives more files                                 │
    its poll ends <─────────── a byte in a pipe ────────┘
    next(steps) ends: an outcome for each item

What arrives during one commit goes into the next. So a single file is
committed at once, ten thousand files share as many flushes as the disk makes
while they arrive, and receiving never waits for a disk.

The steps run in the session's own thread because two threads that both make
many short system calls only take the interpreter from each other: commits were
a thread of their own once. Only what waits, and so lets go of the interpreter,
goes to the background thread.

Not even that does if the last wait was short (nothing to flush, a disk that
caches): the session's thread waits itself then, because to hand the interpreter
over and back for each batch took 7 % of the time of 10,000 small files. Should
a wait be long although the last one was short, the session cannot tell its
sender that it is alive. This is what the `Watchdog` is for: the background
thread, which has nothing else to do then, sends the heartbeats.
"""

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Final

from msgspec import Struct

from xfer.errors import Refused
from xfer.outcomes import Outcome
from xfer.receiving.commit_queue import ArrivedItem, Batch, CommitQueue
from xfer.storage.contract import CommitSteps, StoreWriter
from xfer.storage.os_errors import refusal
from xfer.system.background import BackgroundThread, wait_for
from xfer.wire.keepalive import Watchdog

_SHORT_SECONDS: Final = 0.0005
"""A wait of less than this takes less time than handing it to another thread."""

CommittedBatch = Sequence[tuple[ArrivedItem, Outcome | Refused]]


class _Commit(Struct):
    """A commit that is under way. `waiting` is done once its next step can run."""

    batch: Batch
    steps: CommitSteps
    waiting: Future[None] | None = None


class Committer:
    """Commits what is in `queue`, one batch after the other.

    `descriptor` is readable once a commit that waited can go on: poll it beside
    the socket, then call `run`. `beat` sends a heartbeat, and is called from the
    background thread. Raises Refused (busy) when too many files are open.
    """

    def __init__(self, writer: StoreWriter, queue: CommitQueue, beat: Callable[[], None]) -> None:
        self._writer = writer
        self._queue = queue
        self._commit: _Commit | None = None
        # Written by the thread that waits, and read by the session's after that wait has ended.
        self._last_wait_was_short = False
        self._background = BackgroundThread()
        self._watchdog = Watchdog(self._background, beat)
        try:
            self.descriptor, self._wake = os.pipe()
        except OSError as error:
            raise refusal(error) from error

    def run(self) -> Iterator[CommittedBatch]:
        """Commit as much as possible without waiting for long; yields each batch when it is stored.

        A refused item is one of the outcomes. Anything else that the store raises ends the
        commit, and is raised here.
        """
        if (waiting := self._waiting) and not waiting.done():
            return
        while commit := self._commit or self._begin():
            outcomes = self._continue(commit)
            if outcomes is None:
                return
            yield list(zip(commit.batch.items, outcomes, strict=True))

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until `run` can go on; False if that takes more than `seconds`."""
        waiting = self._waiting
        return waiting is None or wait_for(waiting, seconds)

    def close(self) -> None:
        """End the background thread. No commit may be under way."""
        self._watchdog.end()
        self._background.close()
        os.close(self.descriptor)
        os.close(self._wake)

    @property
    def _waiting(self) -> Future[None] | None:
        return self._commit.waiting if self._commit else None

    def _begin(self) -> _Commit | None:
        if not self._queue.pending:
            return None
        batch = self._queue.next_batch()
        steps = self._writer.commit([arrived.item for arrived in batch.items])
        self._commit = _Commit(batch, steps)
        return self._commit

    def _continue(self, commit: _Commit) -> Sequence[Outcome | Refused] | None:
        """Run steps up to the end, for the outcomes, or up to a long wait, for None."""
        try:
            if commit.waiting:
                os.read(self.descriptor, 1)  # it is done a moment before the byte is written
                commit.waiting.result()
            while self._last_wait_was_short:
                self._watchdog.watch(functools.partial(self._wait_for, next(commit.steps)))
            self._watchdog.end()  # else the background thread would not come to the wait
            self._wait_in_background(commit, next(commit.steps))
        except StopIteration as end:
            outcomes: Sequence[Outcome | Refused] = end.value
        except BaseException:
            commit.steps.close()
            self._end(commit)
            raise
        else:
            return None
        self._end(commit)
        return outcomes

    def _wait_in_background(self, commit: _Commit, wait: Callable[[], None]) -> None:
        commit.waiting = self._background.submit(self._wait_for, wait)
        commit.waiting.add_done_callback(lambda _: os.write(self._wake, b"."))

    def _wait_for(self, wait: Callable[[], None]) -> None:
        began = time.monotonic()
        wait()
        self._last_wait_was_short = time.monotonic() - began < _SHORT_SECONDS

    def _end(self, commit: _Commit) -> None:
        self._commit = None
        self._queue.remove(commit.batch)
