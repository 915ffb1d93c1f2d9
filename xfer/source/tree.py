"""What is to be sent: files, directories, symbolic links, standard input.

Everything is opened relative to the directory it was listed in and never
through a symbolic link. A directory comes after what it holds, so that its
mode and time are the last word. Knows neither the wire nor the stores.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

from msgspec import Struct

from xfer import names
from xfer.errors import LocalError, UsageError, XferError

STDIN: Final = "-"
_LATEST_TIME: Final = 2**63 - 1
"""Nanoseconds: some time in 2262. A system may keep later ones, and earlier ones than the same
before 1970; the wire has no room for them."""


class Kind(Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    STREAM = "stream"


class OpenDirectory:
    """A descriptor that stays open as long as an entry needs it, and no longer."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class Entry(Struct, frozen=True):
    """One thing to send. `parent` is the directory it was found in; None for a given path."""

    kind: Kind
    name: str
    path: str
    status: os.stat_result | None = None
    parent: OpenDirectory | None = None
    target: str = ""

    @property
    def size(self) -> int:
        return self.status.st_size if self.status else 0

    @property
    def mode(self) -> int | None:
        return stat.S_IMODE(self.status.st_mode) if self.status else None

    @property
    def mtime_ns(self) -> int | None:
        return time_of(self.status) if self.status else None


class Unsendable(Struct, frozen=True):
    """Something that was to be sent and cannot be. It holds no directory open."""

    name: str
    path: str
    error: XferError
    parent: None = None


Found = Entry | Unsendable
"""What a walk finds."""


def walk(paths: Sequence[str], stream_name: str | None = None) -> Iterator[Found]:
    """Everything below `paths`, in the order of names, as it is to be sent.

    A path is sent under its own last component; `-` is standard input and
    takes `stream_name`. Raises UsageError when two paths claim one name.
    """
    for name, path in _roots(paths, stream_name):
        if path == STDIN:
            yield Entry(Kind.STREAM, name, "standard input")
        else:
            yield from _descend(name, path)


def measure(paths: Sequence[str]) -> int:
    """How many bytes `walk` would find in files, for a progress bar."""
    return sum(
        entry.size for entry in walk(paths) if isinstance(entry, Entry) and entry.kind is Kind.FILE
    )


def check(paths: Sequence[str], stream_name: str | None = None) -> None:
    """What can be known before connecting. UsageError, or LocalError if nothing is there."""
    if not paths:
        raise UsageError("nothing to send")
    _roots(paths, stream_name)
    missing = [path for path in paths if path != STDIN and not os.path.lexists(path)]
    if len(missing) == len(paths):
        raise LocalError(f"no such file or directory: {missing[0]}")


def _roots(paths: Sequence[str], stream_name: str | None) -> list[tuple[str, str]]:
    roots: dict[str, str] = {}
    for given in paths:
        path = given.rstrip("/") or given  # with the slash, a link would be followed
        if path == STDIN and not stream_name:
            raise UsageError("standard input has no name of its own: give it one with --name")
        name = stream_name if path == STDIN else _own_name(path)
        if name in roots:
            raise UsageError(f"{roots[name]} and {path} would both be stored as {name}")
        roots[name or ""] = path
    if stream_name and STDIN not in paths:
        raise UsageError("--name goes with standard input (-) only")
    return list(roots.items())


def _own_name(path: str) -> str:
    name = os.path.basename(os.path.abspath(path))
    if not name:
        raise UsageError(f"{path} has no name to be stored under: name what is in it")
    return names.from_bytes(os.fsencode(name))


class _Level(Struct, frozen=True):
    """A directory that is being walked: its descriptor, and what is left in it."""

    entry: Entry
    directory: OpenDirectory
    children: Iterator[str]


def _descend(name: str, path: str) -> Iterator[Found]:
    root = _look(name, path, path, None)
    if not isinstance(root, _Level):
        yield root
        return
    levels = [root]  # instead of recursion: a name has room for two thousand components
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


def _look(
    name: str, path: str, target: str, parent: OpenDirectory | None
) -> Entry | Unsendable | _Level:
    """What `path` is, which is `target` in the directory that it was found in."""
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
    return Unsendable(name, path, LocalError(f"{path} is {_special(mode)}: not sent"))


def _open_level(entry: Entry, target: str) -> _Level:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    _, parent = relative(entry.path, entry.parent)
    directory = OpenDirectory(os.open(target, flags, dir_fd=parent))
    return _Level(entry, directory, iter(sorted(os.listdir(directory.descriptor))))


def relative(path: str, parent: OpenDirectory | None) -> tuple[str, int | None]:
    """How to reach `path` without following what somebody may have put on the way."""
    if parent is None:
        return path, None
    return path[path.rindex("/") + 1 :], parent.descriptor


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def time_of(status: os.stat_result) -> int | None:
    """When it was changed (nanoseconds since 1970); None for a time that nobody can be told."""
    return status.st_mtime_ns if abs(status.st_mtime_ns) <= _LATEST_TIME else None


def unreadable(path: str, error: OSError) -> LocalError:
    """What the system's refusal to read `path` means to its owner."""
    if error.errno == errno.ENOENT:
        return LocalError(f"{path} is not there")
    if error.errno == errno.ELOOP:
        return LocalError(f"{path} is not a plain file any more")
    return LocalError(f"{path} cannot be read: {error.strerror}")
