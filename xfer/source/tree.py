"""What is to be sent: `walk` finds files, directories, symbolic links and standard input.

- Everything below a given path is opened relative to the open directory that it
  was found in, and never through a symbolic link. So another program that moves a
  directory, or puts a link in its place, can't make a sender read other files; and
  a path may be longer than the system takes.
- A directory comes after everything in it. It is sent to give it its mode and time,
  and each file that is stored in it would change its time again.
- Files are not opened here: see `readers`. An entry holds its parent directory open
  for that, and closes it when the last entry that needs it is dropped.

Knows neither the wire nor the stores.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, Protocol

from msgspec import Struct

from xfer import names
from xfer.errors import LocalError, XferError
from xfer.source.roots import STDIN, roots

_LATEST_TIME: Final = 2**63 - 1
"""Nanoseconds since 1970, in 2262: 64 bits on the wire. A system may have later times, and times
longer before 1970."""


class Kind(Enum):
    """What was found. A stream is standard input; a FIFO, a socket or a device is special."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    STREAM = "stream"
    SPECIAL = "special"


class OpenDirectory:
    """A descriptor that is closed when the last entry that refers to it is dropped.

    Entries are queued and handed to other threads, so no block of code could say
    when all of a directory have been sent.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class Status(Protocol):
    """What is known of a file before it is opened, as `os.stat_result` has it."""

    @property
    def st_mode(self) -> int: ...

    @property
    def st_size(self) -> int: ...

    @property
    def st_mtime_ns(self) -> int: ...


class Entry(Struct, frozen=True):
    """One thing to send: `name` on the receiver, `path` for the user.

    `status` is as of the walk, None for a stream. `parent` is the open directory
    that it was found in, None for a path that the user gave, and for what a store
    holds. `target` is the text of a symbolic link.
    """

    kind: Kind
    name: str
    path: str
    status: Status | None = None
    parent: OpenDirectory | None = None
    target: str = ""

    @property
    def size(self) -> int:
        """In bytes; 0 for a stream, whose size is unknown."""
        return self.status.st_size if self.status else 0

    @property
    def mode(self) -> int | None:
        return stat.S_IMODE(self.status.st_mode) if self.status else None

    @property
    def mtime_ns(self) -> int | None:
        return time_of(self.status) if self.status else None


class Unsendable(Struct, frozen=True):
    """Something that was found and cannot be sent, and why. It holds no directory open."""

    name: str
    path: str
    error: XferError
    parent: None = None


class Special(Struct, frozen=True):
    """A FIFO, a socket or a device below a given path: it is left out, and that is no failure.

    `reason` is a sentence about it. It holds no directory open.
    """

    name: str
    path: str
    reason: str
    parent: None = None


Found = Entry | Unsendable | Special
"""What a walk yields."""


def walk(paths: Sequence[str], stream_name: str | None = None) -> Iterator[Found]:
    """Everything at and below `paths`, siblings by name, each directory after what is in it.

    A path is sent under its own last component; `-` is standard input and
    takes `stream_name`. What can't be sent is Unsendable, and the walk goes on.
    So is a FIFO, a socket or a device that was asked for by name; below a path
    that was, it is Special.
    UsageError when two paths have the same name, or one has none.
    """
    for name, path in roots(paths, stream_name):
        if path == STDIN:
            yield Entry(Kind.STREAM, name, "standard input")
        else:
            yield from _descend(name, path)


class Extent(Struct, frozen=True):
    """How many plain files there are, and their bytes together."""

    files: int
    size: int


def measure(paths: Sequence[str]) -> Extent:
    """What `walk` finds, for a progress bar."""
    found = (entry for entry in walk(paths) if isinstance(entry, Entry))
    sizes = [entry.size for entry in found if entry.kind is Kind.FILE]
    return Extent(len(sizes), sum(sizes))


class _Level(Struct, frozen=True):
    """A directory that is being walked: its descriptor, and the names in it that are left."""

    entry: Entry
    directory: OpenDirectory
    children: Iterator[str]


def _descend(name: str, path: str) -> Iterator[Found]:
    """What is at `path` and below it, to be stored at `name`."""
    root = _look(name, path, path, None)
    if not isinstance(root, _Level):
        yield root
        return
    levels = [root]  # no recursion, which Python limits: a name can have 2,000 components
    while levels:
        level = levels[-1]
        for child in level.children:
            own = child if child.isascii() else names.from_bytes(os.fsencode(child))
            name, path = f"{level.entry.name}/{own}", f"{level.entry.path}/{child}"
            found = _look(name, path, child, level.directory)
            if isinstance(found, _Level):
                levels.append(found)
                break
            yield found
        else:
            levels.pop()
            yield level.entry


def _look(name: str, path: str, target: str, parent: OpenDirectory | None) -> Found | _Level:
    """What `path` is. It is looked at as `target`: a name in `parent`, or a path that was given.

    A directory is opened, and returned as a level to walk.
    """
    directory = parent.descriptor if parent else None
    try:
        names.check(name)
        status = os.stat(target, dir_fd=directory, follow_symlinks=False)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            return _open_level(Entry(Kind.DIRECTORY, name, path, status, parent), target)
        if stat.S_ISLNK(mode):
            text = os.readlink(os.fsencode(target), dir_fd=directory)
            return Entry(Kind.SYMLINK, name, path, status, parent, names.from_bytes(text))
        if stat.S_ISREG(mode):
            return Entry(Kind.FILE, name, path, status, parent)
    except XferError as error:
        return Unsendable(name, path, error)
    except OSError as error:
        return Unsendable(name, path, unreadable(path, error))
    return _special(name, path, mode, is_named=parent is None)


def _open_level(entry: Entry, target: str) -> _Level:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = entry.parent.descriptor if entry.parent else None
    directory = OpenDirectory(os.open(target, flags, dir_fd=parent))
    return _Level(entry, directory, iter(sorted(os.listdir(directory.descriptor))))


def relative(path: str, parent: OpenDirectory | None) -> tuple[str, int | None]:
    """A path, and the descriptor that it is relative to, to open `path` by.

    With a `parent` that is its last component only: no link on the way is followed.
    """
    if parent is None:
        return path, None
    return path[path.rindex("/") + 1 :], parent.descriptor


def _special(name: str, path: str, mode: int, *, is_named: bool) -> Special | Unsendable:
    """What has no content to send. The user asked for it, if it `is_named`."""
    kind = "a FIFO" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    if is_named:
        return Unsendable(name, path, LocalError(f"{path} is {kind}: not sent"))
    return Special(name, path, f"{path} is {kind}: skipped")


def time_of(status: Status) -> int | None:
    """When it was last changed, in nanoseconds since 1970; None if the wire can't carry that."""
    return status.st_mtime_ns if abs(status.st_mtime_ns) <= _LATEST_TIME else None


def unreadable(path: str, error: OSError) -> LocalError:
    """The error that tells the user why `path` can't be read."""
    if error.errno == errno.ENOENT:
        return LocalError(f"{path} is not there")
    if error.errno == errno.ELOOP:
        return LocalError(f"{path} is not a plain file any more")
    return LocalError(f"{path} cannot be read: {error.strerror}")
