"""What snapshots have, as lines: as `listing` has them of what there is now.

A snapshot gives its names in order, a directory right before what is in it. So one pass
adds up what is below each directory, and a second one, which knows that, makes the lines.
"""

from array import array
from collections.abc import Iterator

from xfer.source.directory_sizes import Unlisted
from xfer.source.listing import ALL, Found, Listed, Wanted
from xfer.source.stored import Missing
from xfer.storage.reading import Beat, Held, HeldKind, PastReader


class PastLister:
    """Lists names as they were. `beat` is called while it takes long."""

    def __init__(self, past: PastReader, wanted: Wanted, beat: Beat, missing: Missing) -> None:
        self._past = past
        self._missing = missing
        self._wanted = wanted
        self._beat = beat

    def lines(self, name: str) -> Iterator[Found]:
        """Those for one name; of the empty one, for all that there was."""
        sizes = self._sizes(name)
        if sizes is None:
            yield Unlisted(name, self._missing(name))
            return
        numbers = iter(sizes)
        for held in self._walk(name):
            size = next(numbers) if held.kind is HeldKind.DIRECTORY else held.size
            if self._is_wanted(held, name):
                yield Listed(
                    held.name or ALL, held.kind, size, held.mtime_ns, held.mode, held.target
                )

    def _is_wanted(self, held: Held, name: str) -> bool:
        is_itself = held.name == name
        if self._wanted.itself:
            return is_itself
        if is_itself:
            return held.kind is not HeldKind.DIRECTORY
        below = held.name[len(name) + 1 :] if name else held.name
        return self._wanted.recursive or "/" not in below

    def _sizes(self, name: str) -> "array[int] | None":
        """Of each directory, in order, the sum of all files below it; None if nothing is there."""
        sizes = array("Q")
        is_there = False
        open_directories: list[tuple[str, int]] = []
        for number, held in enumerate(self._walk(name)):
            is_there = True
            if number % 1024 == 0:
                self._beat(0, 0)
            while open_directories and not _is_below(held.name, open_directories[-1][0]):
                open_directories.pop()
            if held.kind is HeldKind.DIRECTORY:
                open_directories.append((held.name, len(sizes)))
                sizes.append(0)
            for _, directory in open_directories:
                sizes[directory] += held.size
        return sizes if is_there else None

    def _walk(self, name: str) -> Iterator[Held]:
        """All at and below a name, with the directories that have no line of their own."""
        within: list[str] = []
        if not name:
            yield Held("", HeldKind.DIRECTORY)
        for held in self._past.walk([name] if name else []):
            while within and not _is_below(held.name, within[-1]):
                within.pop()
            for missing in _above(held.name, within[-1] if within else "", name):
                within.append(missing)
                yield Held(missing, HeldKind.DIRECTORY)
            if held.kind is HeldKind.DIRECTORY:
                within.append(held.name)
            yield held


def _above(name: str, within: str, top: str) -> list[str]:
    """The directories above a name, below the one that it is known to be within, from the top."""
    above: list[str] = []
    directory = name.rpartition("/")[0]
    while directory and directory != within and len(directory) >= len(top):
        above.append(directory)
        directory = directory.rpartition("/")[0]
    return above[::-1]


def _is_below(name: str, directory: str) -> bool:
    return not directory or name.startswith(f"{directory}/")
