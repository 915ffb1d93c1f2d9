"""What waits to be committed, and which of it makes the next batch."""

import itertools
import resource
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from xfer.storage.contract import Item

_ITEM_WEIGHT: Final = 64 * 1024
"""What an item counts at least beside its bytes; it has a place in memory."""
_SHARE: Final = 8
"""The items of one session, and the directories on the way to them, may have one of so many of
the process's descriptors open."""
WORTH_A_BATCH: Final = 64
"""Items for which a commit begins although more are coming."""
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


class Batch(Struct, frozen=True):
    """What is committed together. No two have the same name."""

    arrived: list[Arrived]
    weight: int


NO_BATCH: Final = Batch([], 0)


class CommitQueue:
    """What one session has to commit. `weight` is that of all that is not committed yet."""

    def __init__(self) -> None:
        self.pending: list[tuple[Arrived, int]] = []
        self.weight = 0
        self._last_directory = ""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._item_weight = max(_ITEM_WEIGHT, FULL * _SHARE // descriptors)

    def add(self, arrived: Arrived) -> None:
        """Have it committed."""
        opened = 1 + self._directories_beside_the_last(arrived.item.name)
        weight = arrived.size + opened * self._item_weight
        self.pending.append((arrived, weight))
        self.weight += weight

    def next_batch(self) -> Batch:
        """What is pending, up to the second one of a name."""
        names: set[str] = set()
        batch_weight = 0
        for arrived, weight in self.pending:
            if arrived.item.name in names:
                break
            names.add(arrived.item.name)
            batch_weight += weight
        batch = [arrived for arrived, _ in self.pending[: len(names)]]
        del self.pending[: len(names)]
        return Batch(batch, batch_weight)

    def remove(self, batch: Batch) -> None:
        """It is committed."""
        self.weight -= batch.weight

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
