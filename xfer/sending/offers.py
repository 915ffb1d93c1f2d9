"""What the receiver is asked before it is sent, and what it wants of that.

    sending thread                     receiver            receiving thread

    offers_for(batch) ── directories ──▶
                      ── files ────────▶
                                         ── Plan(absent) ──▶ add_plan ──▶ _absent
                                         ── Plan(files) ───▶ add_plan ──▶ _plans ──┐
    plan_for(name) ◀───────────────────────────────────────────────────────────────┘

Plans come in the order of the offers, so a queue is enough to match them.
Not everything is asked about. Directories, links and standard input are always
sent. A small file below a directory that the receiver does not have is sent
too: that takes less time than to wait for the plan.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import TypeGuard

from xfer.errors import CorruptData, XferError
from xfer.sending.batches import Batch
from xfer.sending.outstanding import Outstanding
from xfer.sending.parts import PART_BYTES, Options, PartReader
from xfer.source.tree import Entry, Found, Kind
from xfer.wire.messages import Offer, OfferedFile, Plan, PlannedFile


class Offers:
    """The offers of one session, and the plans that answer them."""

    def __init__(self, options: Options, reader: PartReader, outstanding: Outstanding) -> None:
        self._options = options
        self._reader = reader
        self._outstanding = outstanding
        # Of the sending thread alone:
        self._offered: set[str] = set()
        self._next_plans: Iterator[PlannedFile] = iter(())
        # From the receiving thread to the sending one; a SimpleQueue has a lock of its own:
        self._plans: SimpleQueue[Sequence[PlannedFile] | XferError] = SimpleQueue()
        self._lock = threading.Lock()
        """Guards what follows, which both threads change."""
        self._unplanned: deque[str] = deque()
        self._asked: set[str] = set()
        self._absent: set[str] = set()

    # The sending thread

    def offers_for(self, batch: Batch) -> Iterator[Offer]:
        """The messages to send for a batch, each to be sent before the next is asked for."""
        if roots := self._roots_to_ask_about(batch):
            yield Offer((), self._options.algorithm, tuple(roots))
        with self._lock:
            entries = [entry for entry in batch if self._should_offer(entry)]
        if files := [self._described(entry) for entry in entries]:
            names = [file.file_name for file in files]
            self._offered.update(names)
            with self._lock:
                self._unplanned.extend(names)
            yield Offer(tuple(files), self._options.algorithm)

    def plan_for(self, name: str) -> PlannedFile | None:
        """Wait for the plan for a file, in the order of the offers; None if it was not offered.

        Raises the error given to `end` where no plan will come.
        """
        if name not in self._offered:
            return None
        self._offered.remove(name)
        while not (plan := next(self._next_plans, None)):
            plans = self._plans.get()
            if isinstance(plans, XferError):
                raise plans
            self._next_plans = iter(plans)
        if plan.differs and self._options.compare_contents:
            self._outstanding.mark_differing(name)
        return plan

    def _roots_to_ask_about(self, batch: Batch) -> set[str]:
        """Top directories of which nothing was asked yet: does the receiver have them?"""
        roots = {entry.name.partition("/")[0] for entry in batch if "/" in entry.name}
        with self._lock:
            new = roots - self._asked
            self._asked |= new
        return new

    def _should_offer(self, entry: Found) -> TypeGuard[Entry]:
        if not isinstance(entry, Entry) or entry.kind is not Kind.FILE:
            return False
        return entry.size >= PART_BYTES or entry.name.partition("/")[0] not in self._absent

    def _described(self, entry: Entry) -> OfferedFile:
        digest = {}
        if self._options.compare_contents and (content := self._reader.digest_of(entry)):
            digest[self._options.algorithm] = content
            self._outstanding.add(entry, (self._options.algorithm, content))
        else:
            self._outstanding.add(entry)
        return OfferedFile(entry.name, entry.size, entry.mtime_ns, entry.mode, **digest)

    # The receiving thread

    def add_plan(self, plan: Plan) -> None:
        """Hand a plan to the sending thread. CorruptData where it answers no offer."""
        with self._lock:
            if not self._asked.issuperset(plan.absent):
                raise _no_such_offer()
            self._absent.update(plan.absent)
            for planned in plan.files:
                if not self._unplanned or planned.file_name != self._unplanned.popleft():
                    raise _no_such_offer()
        if plan.files:
            self._plans.put(plan.files)

    def offer_all(self) -> None:
        """From now on, offer small files of absent directories too.

        Call this when something was refused: others may be as well, and an
        offer costs less than a file that is sent in vain.
        """
        with self._lock:
            self._absent.clear()

    def end(self, error: XferError) -> None:
        """Let `plan_for` raise this once it has given all plans that came; read no more files."""
        self._plans.put(error)
        self._reader.interrupt()


def _no_such_offer() -> CorruptData:
    return CorruptData("a plan for something that was not offered")
