"""What a session offers at once, and how much may be on offer before some of it is sent."""

import itertools
import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol

from xfer.source.tree import Found
from xfer.wire.messages.offers import in_frames

Batch = Sequence[Found]

OPEN_DIRECTORIES: Final = 64
"""What is offered holds the directories open that it was found in."""
_PARENT: Final = operator.attrgetter("parent")
_OFFERS_AHEAD: Final = 8
"""So many are under way at once, so that a long line is kept full."""


class Batches(Protocol):
    """What one session sends, by as much as fits into one offer."""

    def __iter__(self) -> Iterator[Batch]:
        """An empty batch says that more may come, and that there is nothing for the moment."""

    def is_full(self, offered: Collection[Batch]) -> bool:
        """Whether some of what was offered should be sent before more is."""


class InOrder:
    """Everything over one connection, in the order of `entries`."""

    def __init__(self, entries: Iterable[Found]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[Batch]:
        return in_frames(self._entries, operator.attrgetter("name"))

    def is_full(self, offered: Collection[Batch]) -> bool:
        return len(offered) > _OFFERS_AHEAD or directories(offered) > OPEN_DIRECTORIES


def directories(batches: Iterable[Batch]) -> int:
    """How many directories are held open by what waits."""
    return len(set(map(_PARENT, itertools.chain.from_iterable(batches))))
