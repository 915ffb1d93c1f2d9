"""Which lines are wanted of a store: of what there is now, what was once, or its snapshots."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from xfer.source.directory_sizes import AtWork
from xfer.source.listing import Found, Lister, Wanted
from xfer.source.past_listing import PastLister
from xfer.source.stored import not_there
from xfer.storage.reading import SnapshotInfo, StoreReader

AnyFound = Found | SnapshotInfo
Lines = Callable[[str], Iterator[AnyFound]]
"""Gives the lines for one name; of the empty one, for all that there is."""


def lines_of(
    reader: StoreReader,
    wanted: Wanted,
    at_work: AtWork,
    tell_chosen: Callable[[Sequence[SnapshotInfo]], None],
) -> Lines:
    """How to find what is wanted. `at_work` is called for each thing that is looked at.

    `tell_chosen` is told of which snapshots it is, if it is of a moment in the past.
    Refused (not_found) where there is no snapshot so old.
    """
    if wanted.snapshots:
        return lambda _: reader.snapshots()
    if not wanted.at:
        return Lister(reader, wanted, at_work).lines
    past = reader.past(wanted.at)
    tell_chosen(past.chosen)

    def beat(done: int, size: int) -> None:  # noqa: ARG001 (of no use here)
        at_work("", done)

    return PastLister(past, wanted, beat, partial(not_there, reader, wanted.at, beat)).lines
