"""What a store holds, as something to send: `walk_stored` finds it, `open_stored` opens it.

The same as `tree` and `readers` are for a user's own files. Names are relative to what
the reader of the store sees, and no path of this machine is in any sentence.
"""

import posixpath
from collections.abc import Callable, Iterator
from typing import Final, Self

from msgspec import Struct

from xfer.errors import Code, LocalError, Refused
from xfer.source.tree import Entry, Found, Kind, Special, Unsendable
from xfer.storage.reading import (
    Beat,
    Held,
    HeldKind,
    PastReader,
    StoredFileReader,
    StoreReader,
)

_KINDS: Final = {
    HeldKind.FILE: Kind.FILE,
    HeldKind.DIRECTORY: Kind.DIRECTORY,
    HeldKind.SYMLINK: Kind.SYMLINK,
}


def open_stored(reader: StoreReader, entry: Entry) -> "StoredSource":
    """Open what `walk_stored` has found. LocalError where it is no more, or cannot be read."""
    try:
        opened = reader.open(entry.path)
    except Refused as error:
        raise _unreadable(entry.path, error) from error
    if opened is None:
        raise LocalError(f"there is no {entry.path} any more", code=Code.NOT_FOUND)
    return StoredSource(opened, entry.path)


class StoredSource:
    """A stored file, open (`readers.Source`). Nobody writes to one, but people who know better."""

    def __init__(self, opened: StoredFileReader, name: str, held: Held | None = None) -> None:
        """Mode and time are those of `held`, if it is given: they can have changed since then."""
        self._opened = opened
        self._name = name
        self._position = 0
        self.size = opened.size
        self.mode = held.mode if held else opened.mode
        self.mtime_ns = held.mtime_ns if held else opened.mtime_ns

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def read_into(self, view: memoryview) -> int:
        wanted = min(len(view), self.size - self._position)
        filled = 0
        while filled < wanted:
            try:
                size = self._opened.read_at(self._position + filled, view[filled:wanted])
            except Refused as error:
                raise _unreadable(self._name, error) from error
            if not size:
                raise LocalError(f"{self._name} became shorter while it was read")
            filled += size
        self._position += filled
        return filled

    def is_at_end(self) -> bool:
        return self._position >= self.size

    def rewind(self) -> None:
        self._position = 0

    def interrupt(self) -> None:
        """A read of a stored file returns soon by itself."""


def open_past(past: PastReader, beat: Beat, entry: Entry) -> "StoredSource":
    """Open what `walk_past` has found. LocalError where its content is not kept any more."""
    held = entry.status.held if isinstance(entry.status, _Status) else None
    try:
        opened = past.open(held, beat) if held else None
    except Refused as error:
        raise _unreadable(entry.path, error) from error
    if opened is None:
        raise LocalError(
            f"the content that {entry.path} had then is not kept any more", code=Code.NOT_FOUND
        )
    return StoredSource(opened, entry.path, held)


Missing = Callable[[str], Refused]
"""Makes the error for a name that is asked for and not there, see `not_there`."""


def walk_stored(reader: StoreReader, name: str, missing: Missing) -> Iterator[Found]:
    """What has this name and all below it, sent under its last component; of "" all there is.

    Each directory comes after what it holds. Unsendable where there is nothing, with the error
    that `missing` makes, and for what has the name and can't be sent.
    """
    try:
        held = _looked_up(reader, name, missing)
    except Refused as error:
        yield Unsendable(posixpath.basename(name), name, error)
        return
    above = len(name) - len(posixpath.basename(name))
    levels: list[_Level] = []
    yield from _visit(reader, held, above, levels)
    while levels:  # no recursion, which Python limits: a name can have 2,000 components
        level = levels[-1]
        if level.directories:
            yield from _visit(reader, level.directories.pop(), above, levels)
        else:
            levels.pop()
            if level.held.name:
                yield _entry(level.held, above)


def walk_past(past: PastReader, name: str, missing: Missing) -> Iterator[Found]:
    """As `walk_stored`, of what snapshots have.

    A name that has no line, and names below it that have, is a directory that nobody sent.
    """
    above = len(name) - len(posixpath.basename(name))
    directories: list[Held] = []
    is_there = False
    for held in past.walk([name] if name else []):
        if name and not is_there and held.name != name:
            directories.append(Held(name, HeldKind.DIRECTORY))
        is_there = True
        while directories and not held.name.startswith(f"{directories[-1].name}/"):
            yield _entry(directories.pop(), above)
        if held.kind is HeldKind.DIRECTORY:
            directories.append(held)
        else:
            yield _entry(held, above)
    while directories:
        yield _entry(directories.pop(), above)
    if name and not is_there:
        yield Unsendable(posixpath.basename(name), name, missing(name))


def not_there(reader: StoreReader, at: str, beat: Beat, name: str) -> Refused:
    """The error for a name that is not there, or was not at a stamp: it says when it last was."""
    before = reader.last_there(name, at, beat)
    if before:
        stamp = before.stamp
        day = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}"
        sentence = f"{name} was last there on {day}: --at {stamp}"
    elif at:
        sentence = f"there was no {name} then, nor in any snapshot before"
    else:
        sentence = f"there is no {name}"
    return Refused(sentence, code=Code.NOT_FOUND)


def _looked_up(reader: StoreReader, name: str, missing: Missing) -> Held:
    """What was asked for by its own name. Refused where that is nothing that can be sent."""
    held = reader.look(name)
    if held is None:
        raise missing(name)
    if held.kind not in _KINDS:
        raise Refused(f"{name} is no file, directory or link", code=Code.UNSUPPORTED)
    return held


class _Level(Struct, frozen=True):
    """A directory whose other content has been walked, and the directories in it that are left."""

    held: Held
    directories: list[Held]


def _visit(reader: StoreReader, held: Held, above: int, levels: list[_Level]) -> Iterator[Found]:
    """`held`, or what is in it: what is no directory itself, and a level for the rest."""
    if held.kind is not HeldKind.DIRECTORY:
        yield _entry(held, above)
        return
    directories: list[Held] = []
    try:
        for child in reader.children(held.name):
            if child.kind is HeldKind.DIRECTORY:
                directories.append(child)
            else:
                yield _entry(child, above)
    except Refused as error:
        yield Unsendable(held.name[above:], held.name, error)
    directories.sort(key=lambda child: child.name, reverse=True)
    levels.append(_Level(held, directories))


def _entry(held: Held, above: int) -> Entry | Special:
    name = held.name[above:]
    kind = _KINDS.get(held.kind)
    if kind is None:
        return Special(name, held.name, f"{held.name} is no file, directory or link: skipped")
    return Entry(kind, name, held.name, _status(held), target=held.target)


def _unreadable(name: str, error: Refused) -> LocalError:
    return LocalError(f"{name} cannot be read: {error.message}", code=error.code)


class _Status(Struct, frozen=True):
    """What the store knows of a name (`tree.Status`), and of what a snapshot has, where from."""

    st_mode: int
    st_size: int
    st_mtime_ns: int
    held: Held


def _status(held: Held) -> _Status | None:
    if held.mode is None or held.mtime_ns is None:
        return None  # a directory that nobody has said more of
    return _Status(held.mode, held.size, held.mtime_ns, held)
