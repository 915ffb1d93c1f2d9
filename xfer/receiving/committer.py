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
import itertools
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Final

from msgspec import Struct, field

from xfer.errors import ConnectionLost, Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import CommitSteps, Item, NewFile, StoreWriter
from xfer.storage.os_errors import refusal
from xfer.system.background import BackgroundThread, wait_for
from xfer.wire.keepalive import Watchdog

_ITEM_WEIGHT: Final = 64 * 1024
"""What an item counts at least beside its bytes; it has a place in memory."""
_SHARE: Final = 8
"""The items of one session, and the directories on the way to them, may have one of so many of
the process's descriptors open."""
_WORTH_A_BATCH: Final = 64
"""Items for which a commit begins although more are coming."""
_HARDLY: Final = 0.0005
"""Seconds of waiting that take less than it takes to hand them to another thread."""
FULL: Final = 32 * 1024 * 1024
"""Weight from which on whoever receives should wait."""
EMPTY: Final = 1


class Arrived(Struct, frozen=True):
    """Something that only a commit keeps from its receipt.

    `size` in bytes, and `digest` as hex by its kind, for files.
    """

    item: Item
    began: float
    size: int = 0
    digest: Mapping[str, str] = field(default_factory=dict)


Committed = Sequence[tuple[Arrived, Outcome | Refused]]


class Committer:
    """The commits of one session, one after the other.

    `answer` is called after each batch with what became of its items, and `beat`,
    from any thread, when whoever called has to wait for long in here. Once a
    commit can go on, something can be read from `descriptor`; whoever waits for
    more to arrive waits for that, too, and calls `resume`.
    """

    def __init__(
        self, writer: StoreWriter, answer: Callable[[Committed], None], beat: Callable[[], None]
    ) -> None:
        self._writer = writer
        self._answer = answer
        self._pending: list[tuple[Arrived, int]] = []
        self._last_directory = ""
        self._batch: list[Arrived] = []
        self._batch_weight = 0
        self._steps: CommitSteps | None = None
        self._awaited: Future[None] | None = None
        self._waits_hardly = False
        self.weight = 0
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._item_weight = max(_ITEM_WEIGHT, FULL * _SHARE // descriptors)
        self._background = BackgroundThread()
        self._watchdog = Watchdog(self._background, beat)
        try:
            self.descriptor, self._wake = os.pipe()
        except OSError as error:
            raise refusal(error) from error

    def add(self, arrived: Arrived) -> None:
        """Have it committed."""
        opened = 1 + self._directories_beside_the_last(arrived.item.name)
        weight = arrived.size + opened * self._item_weight
        self._pending.append((arrived, weight))
        self.weight += weight
        if len(self._pending) >= _WORTH_A_BATCH:
            self.hurry()

    def _directories_beside_the_last(self, name: str) -> int:
        """On the way to `name`, but not to the item before it: a commit opens each, once."""
        directory = name.rpartition("/")[0]
        last, self._last_directory = self._last_directory, directory
        if not directory or directory == last:
            return 0
        components = directory.split("/")
        pairs = zip(components, last.split("/"), strict=False)
        shared = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        return len(components) - sum(1 for _ in shared)

    def hurry(self) -> None:
        """Nothing more is coming for the moment: commit what there is."""
        self.resume()
        while self._steps is None and self._pending:
            self._begin()

    def resume(self) -> None:
        """Carry on with a commit that had to wait, if it need not any more."""
        if self._steps and self._awaited and self._awaited.done():
            self._run(self._steps)

    def wait_below(self, weight: int, seconds: float) -> bool:
        """Wait until less than `weight` is uncommitted; False if nothing happens for so long."""
        self.hurry()
        while self._awaited and self.weight >= weight:
            if not wait_for(self._awaited, seconds):
                return False
            self.hurry()
        return True

    @property
    def is_busy(self) -> bool:
        return self.weight > 0

    def close(self) -> None:
        """Commit what has arrived whole, whether anybody still hears of it or not."""
        try:
            while not self.wait_below(EMPTY, 60.0):
                pass
        finally:
            for arrived, _ in self._pending:  # a commit has failed in a way that nobody foresaw
                if isinstance(arrived.item, NewFile):
                    arrived.item.partial.keep()
            self._watchdog.end()
            self._background.close()
            os.close(self.descriptor)
            os.close(self._wake)

    def _begin(self) -> None:
        """Commit what is pending, up to the second one of a name."""
        names: set[str] = set()
        self._batch_weight = 0
        for arrived, weight in self._pending:
            if arrived.item.name in names:
                break
            names.add(arrived.item.name)
            self._batch_weight += weight
        self._batch = [arrived for arrived, _ in self._pending[: len(names)]]
        del self._pending[: len(names)]
        self._steps = self._writer.commit([arrived.item for arrived in self._batch])
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
        batch, self._batch = self._batch, []
        self.weight -= self._batch_weight
        self._awaited = self._steps = None
        return batch
