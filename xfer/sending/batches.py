"""The batches of a session: as many entries as fit into one offer, and how many are on offer."""

import itertools
import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol

from xfer.source.tree import Found
from xfer.wire.messages.offers import in_frames

Batch = Sequence[Found]

OPEN_DIRECTORIES: Final = 64
"""Directories that entries on offer may hold open: each entry keeps the one it was found in."""
OFFERS_AHEAD: Final = 8
"""Offers under way before the first of them is sent, so that a line with a long delay is full."""
_NAME: Final = operator.attrgetter("name")
_PARENT: Final = operator.attrgetter("parent")


class Batches(Protocol):
    """What one session sends."""

    def __iter__(self) -> Iterator[Batch]:
        """An empty batch means that there is nothing now, and that more may come."""

    def is_full(self, offered: Collection[Batch]) -> bool:
        """Whether the first of the `offered` batches is to be sent before another is offered."""


class InOrder:
    """Everything over one connection, in the order of `entries`."""

    def __init__(self, entries: Iterable[Found]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[Batch]:
        return in_offers(self._entries)

    def is_full(self, offered: Collection[Batch]) -> bool:
        return len(offered) > OFFERS_AHEAD or count_directories(offered) > OPEN_DIRECTORIES


def in_offers(entries: Iterable[Found]) -> Iterator[Batch]:
    """`entries` in batches that fit into one offer each."""
    return in_frames(entries, _NAME)


def count_directories(batches: Iterable[Batch]) -> int:
    """How many directories these batches hold open."""
    return len(set(map(_PARENT, itertools.chain.from_iterable(batches))))
