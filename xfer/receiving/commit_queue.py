"""What has arrived whole and waits to be committed, and which of it makes the next batch."""

import itertools
import resource
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from xfer.storage.contract import Item, NewFile

BATCH_ITEMS: Final = 64
"""With so many items pending, a commit begins although more are coming."""
FULL_WEIGHT: Final = 32 * 1024 * 1024
"""With so much uncommitted, receive nothing more for now: each item takes memory, and keeps
descriptors open."""
_ITEM_WEIGHT: Final = 64 * 1024
"""What an item weighs at least in addition to its bytes, for its place in memory."""
_DESCRIPTORS_SHARE: Final = 8
"""One session's items, and the directories on the way to them, may keep open one in so many of
the descriptors that the process may have."""


class ArrivedItem(Struct, frozen=True):
    """An item that is complete, and not committed yet.

    `began` says when its first byte came (`time.monotonic`). For files, `size` in
    bytes, and `digest` as hex by its algorithm.
    """

    item: Item
    began: float
    size: int = 0
    digest: Mapping[str, str] = field(default_factory=dict)


class Batch(Struct, frozen=True):
    """Items that are committed together; no two have the same name."""

    items: list[ArrivedItem]
    weight: int


class CommitQueue:
    """The items of one session that are not committed yet. Used by its thread only.

    An item weighs its bytes, and as many times `_ITEM_WEIGHT` as a commit opens
    descriptors for it; more where the process may have few descriptors.

    `pending` has the items that are in no batch yet, each with its weight.
    `weight` is that of all uncommitted items: pending, or in a batch that was
    taken with `next_batch` and not given to `remove` yet.
    """

    def __init__(self) -> None:
        self.pending: list[tuple[ArrivedItem, int]] = []
        self.weight = 0
        self._last_directory = ""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._item_weight = max(_ITEM_WEIGHT, FULL_WEIGHT * _DESCRIPTORS_SHARE // descriptors)

    def add(self, arrived: ArrivedItem) -> None:
        """Append an item, its partial included: the queue keeps or commits it from here on."""
        opened = 1 + self._directories_to_open(arrived.item.name)
        weight = arrived.size + opened * self._item_weight
        self.pending.append((arrived, weight))
        self.weight += weight

    def next_batch(self) -> Batch:
        """Take what is pending, up to the second item of a name."""
        names: set[str] = set()
        batch_weight = 0
        for arrived, weight in self.pending:
            if arrived.item.name in names:
                break
            names.add(arrived.item.name)
            batch_weight += weight
        items = [arrived for arrived, _ in self.pending[: len(names)]]
        del self.pending[: len(names)]
        return Batch(items, batch_weight)

    def remove(self, batch: Batch) -> None:
        """Note that a commit of this batch has ended: it weighs nothing any more."""
        self.weight -= batch.weight

    def keep_partials(self) -> None:
        """Leave the partials of pending files to a later session, as no commit will come."""
        for arrived, _ in self.pending:
            if isinstance(arrived.item, NewFile):
                arrived.item.partial.keep()

    def _directories_to_open(self, name: str) -> int:
        """How many directories on the way to `name` were not on that to the item before it.

        A commit opens each directory once, and keeps it open until its end.
        """
        directory = name.rpartition("/")[0]
        last, self._last_directory = self._last_directory, directory
        if not directory or directory == last:
            return 0
        components = directory.split("/")
        pairs = zip(components, last.split("/"), strict=False)
        shared = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        return len(components) - sum(1 for _ in shared)
