"""How much is below a directory of a store, in bounded memory."""

from collections.abc import Callable, Generator, Iterator
from typing import Final

from msgspec import Struct

from xfer import names
from xfer.errors import Refused, XferError
from xfer.source.in_order import in_order, most_at
from xfer.storage.reading import HeldKind, StoreReader

_REMEMBERED: Final = 16_384
"""Directories whose size is known before their line comes."""
AtWork = Callable[[str, int], None]
"""Told of a directory that is being looked at, and of the bytes counted in it so far."""


class Unlisted(Struct, frozen=True):
    """What could not be listed, or not all of it, and why."""

    name: str
    error: XferError


class _Level(Struct):
    """A directory of a walk: the bytes counted so far, and the directories in it that are left."""

    name: str
    size: int = 0
    below: Iterator[str] = iter(())


class DirectorySizes:
    """Adds up the sizes of files.

    If the caller `will_list_all`, then each directory below comes a moment later, in the
    order of this walk: so the sizes of the first are remembered, and those of others are
    added up again, which for a tree of ordinary depth is seldom and soon over. And what
    cannot be read is told then, instead of here.
    """

    def __init__(self, reader: StoreReader, at_work: AtWork, *, will_list_all: bool) -> None:
        self._reader = reader
        self._at_work = at_work
        self._will_list_all = will_list_all
        self._known: dict[bytes, int] = {}

    def of(self, directory: str) -> Generator[Unlisted, None, int]:
        """The bytes of all files below; what can't be read is left out, and yielded."""
        known = self._known.pop(_key(directory), None)
        if known is not None:
            return known
        levels = [self._level(directory, 0)]
        while True:
            level = levels[-1]
            self._at_work(directory, levels[0].size)
            try:
                below = next(level.below, None)
            except Refused as error:
                below = None
                if not self._will_list_all:
                    yield Unlisted(level.name, error)
            if below is not None:
                levels.append(self._level(below, len(levels)))
                continue
            levels.pop()
            if not levels:
                return level.size
            levels[-1].size += level.size
            self._remember(level)

    def _level(self, name: str, depth: int) -> _Level:
        level = _Level(name)
        level.below = self._directories_in(level, depth)
        return level

    def _directories_in(self, level: _Level, depth: int) -> Iterator[str]:
        """Its directories, in order; the first time that it is read, its files are counted."""
        is_counted = False

        def scan() -> Iterator[str]:
            nonlocal is_counted
            for child in self._reader.children(level.name):
                self._at_work(level.name, level.size)
                if child.kind is HeldKind.DIRECTORY:
                    yield child.name
                elif not is_counted:
                    level.size += child.size
            is_counted = True

        return in_order(scan, most_at(depth))

    def _remember(self, level: _Level) -> None:
        if self._will_list_all and len(self._known) < _REMEMBERED:
            self._known[_key(level.name)] = level.size


def _key(name: str) -> bytes:
    """A name may have 4,096 bytes."""
    return names.fingerprint(names.to_bytes(name))
