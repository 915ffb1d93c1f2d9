"""Names in order, however many there are, in bounded memory and without a file to sort in.

    scan ──▶ the first so many in the order ──▶ scan again ──▶ the next so many ──▶ …

A directory can be read as often as one likes, and to read it takes far less than to look
at each of its names. So with few names there is one scan, and with a million sixteen.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

_MOST: Final = 65_536
_LEAST: Final = 256


def most_at(depth: int) -> int:
    """How many names to hold of a directory so deep in a walk that holds some of each level.

    In all, no more than twice those of the first, and a few for each level of a tree that has
    thousands.
    """
    return max(_MOST >> min(depth, 16), _LEAST)


def in_order(scan: Callable[[], Iterable[str]], most: int = _MOST) -> Iterator[str]:
    """What `scan` gives, sorted, with at most twice `most` names in memory.

    Between scans names may come and go: each that stays is given once.
    """
    last: str | None = None
    while True:
        some, is_all = _smallest(scan(), last, most)
        yield from some
        if is_all:
            return
        last = some[-1]
        some.clear()  # before the next ones come


def _smallest(names: Iterable[str], after: str | None, most: int) -> tuple[list[str], bool]:
    """The first `most` names after `after`, in order, and whether there are no others."""
    kept: list[str] = []
    limit: str | None = None
    for name in names:
        if (after is None or name > after) and (limit is None or name < limit):
            kept.append(name)
            if len(kept) == 2 * most:
                kept.sort()
                del kept[most:]
                limit = kept[-1]
    kept.sort()
    is_all = limit is None and len(kept) <= most
    return kept[:most], is_all
