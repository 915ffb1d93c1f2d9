"""What is on offer, and what the receiver has said of it.

One thread offers and asks what became of that, another one takes the plans.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import TypeGuard

from xfer.errors import CorruptData, XferError
from xfer.sending.batches import Batch
from xfer.sending.parts import PART_BYTES
from xfer.source.tree import Entry, Found, Kind
from xfer.wire.messages import Plan, PlannedFile


class OutstandingOffers:
    """The files that one session offers, and those that it need not offer."""

    def __init__(self) -> None:
        self._unplanned: deque[str] = deque()
        self._plans: SimpleQueue[Sequence[PlannedFile] | XferError] = SimpleQueue()
        self._offered: set[str] = set()
        self._planned: Iterator[PlannedFile] = iter(())
        self._asked: set[str] = set()
        self._absent: set[str] = set()

    # The thread that offers

    def roots_to_ask_about(self, batch: Batch) -> list[str]:
        """Directories that nobody has asked the receiver about, whether it has anything there."""
        roots = {entry.name.partition("/")[0] for entry in batch if "/" in entry.name}
        new = roots - self._asked
        self._asked |= new
        return list(new)

    def should_offer(self, entry: Found) -> TypeGuard[Entry]:
        """A small file below what is absent is sent sooner than it is offered."""
        if not isinstance(entry, Entry) or entry.kind is not Kind.FILE:
            return False
        return entry.size >= PART_BYTES or entry.name.partition("/")[0] not in self._absent

    def add(self, names: Sequence[str]) -> None:
        """These are about to be offered, in this order."""
        self._unplanned.extend(names)
        self._offered.update(names)

    def plan_for(self, name: str) -> PlannedFile | None:
        """Wait for the plan for a file, in the order of offers; None if it was not offered.

        Raises what `end` was told.
        """
        if name not in self._offered:
            return None
        self._offered.remove(name)
        while not (plan := next(self._planned, None)):
            plans = self._plans.get()
            if isinstance(plans, XferError):
                raise plans
            self._planned = iter(plans)
        return plan

    # The thread that takes plans

    def add_plan(self, plan: Plan) -> None:
        """CorruptData when it is not about what was offered, or asked."""
        if not self._asked.issuperset(plan.absent):
            raise CorruptData("a plan for something that was not offered")
        self._absent.update(plan.absent)
        for planned in plan.files:
            if not self._unplanned or planned.file_name != self._unplanned.popleft():
                raise CorruptData("a plan for something that was not offered")
        if plan.files:
            self._plans.put(plan.files)

    def offer_all(self) -> None:
        """Something was refused: what else will not be taken should not travel."""
        self._absent.clear()

    def end(self, error: XferError) -> None:
        """There will be no more plans."""
        self._plans.put(error)
