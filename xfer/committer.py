"""Commits beside the receiving: what arrives during one commit goes into the next.

So one file is committed at once, ten thousand share as many flushes as the
disk makes in the time they take to arrive, and nobody waits for a disk.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from xfer.errors import ConnectionLost, Refused
from xfer.messages import Receipt
from xfer.storage import Intake, Item, NewFile, Outcome

_ITEM_WEIGHT: Final = 64 * 1024
"""What an item counts beside its bytes; it has a descriptor open, and a place in memory."""
_WORTH_A_BATCH: Final = 64
"""Items for which a commit begins although more are coming."""
FULL: Final = 32 * 1024 * 1024
"""Weight from which on whoever receives should wait."""
EMPTY: Final = 1


@dataclass(frozen=True, slots=True)
class Arrived:
    """Something that only a commit keeps from its receipt. `size` in bytes."""

    item: Item
    receipt: Receipt
    began: float
    size: int = 0

    @property
    def weight(self) -> int:
        return self.size + _ITEM_WEIGHT


Settle = Callable[[Arrived, Outcome | Refused], None]


class Committer:
    """The thread that commits for one session; started with the first item.

    `settle` is called in it for each item with what became of it, and `flush`
    after each batch.
    """

    def __init__(self, intake: Intake, settle: Settle, flush: Callable[[], None]) -> None:
        self._intake = intake
        self._settle = settle
        self._flush = flush
        self._pending: list[Arrived] = []
        self._weight = 0
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._is_in_a_hurry = self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, arrived: Arrived) -> None:
        """Have it committed. Raises what ended the thread, if anything did."""
        with self._changed:
            if self._failure:
                raise self._failure
            self._pending.append(arrived)
            self._weight += arrived.weight
            if len(self._pending) >= _WORTH_A_BATCH:
                self._hurry()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def hurry(self) -> None:
        """Nothing more is coming for the moment: commit what there is."""
        with self._changed:
            self._hurry()

    def wait_below(self, weight: int, seconds: float) -> bool:
        """Wait until less than `weight` is unsettled; False if it takes longer.

        Raises what ended the thread, if anything did.
        """
        with self._changed:
            self._hurry()
            below = self._changed.wait_for(
                lambda: self._weight < weight or self._failure is not None, seconds
            )
            if self._failure:
                raise self._failure
            return below

    @property
    def is_busy(self) -> bool:
        return self._weight > 0

    def close(self) -> None:
        """Commit what has arrived whole, whether anybody still hears of it or not."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join()
        for arrived in self._pending:  # the thread has failed
            if isinstance(arrived.item, NewFile):
                arrived.item.partial.keep()

    def _hurry(self) -> None:
        if self._pending:
            self._is_in_a_hurry = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._commit(batch)
        except Exception as error:  # noqa: BLE001 (whoever adds or waits next raises it)
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next_batch(self) -> list[Arrived]:
        """What is pending, up to the second one of a name; nothing means that it is over."""
        with self._changed:
            self._changed.wait_for(lambda: (self._pending and self._is_in_a_hurry) or self._closing)
            self._is_in_a_hurry = False
            names: set[str] = set()
            for arrived in self._pending:
                if arrived.item.name in names:
                    break
                names.add(arrived.item.name)
            batch = self._pending[: len(names)]
            del self._pending[: len(names)]
            return batch

    def _commit(self, batch: Sequence[Arrived]) -> None:
        outcomes = self._intake.commit([arrived.item for arrived in batch])
        with contextlib.suppress(ConnectionLost):  # stored all the same; the next try finds it
            for arrived, outcome in zip(batch, outcomes, strict=True):
                self._settle(arrived, outcome)
            self._flush()
        with self._changed:
            self._weight -= sum(arrived.weight for arrived in batch)
            self._changed.notify_all()
