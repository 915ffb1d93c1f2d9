"""What is to be sent: files, directories, symbolic links, standard input.

Everything is opened relative to the directory it was listed in and never
through a symbolic link. A directory comes after what it holds, so that its
mode and time are the last word. Knows neither the wire nor the stores.
"""

import errno
import os
import select
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, Self

from xfer import names
from xfer.errors import LocalError, UsageError, XferError

STDIN: Final = "-"
_STREAM_PATIENCE: Final = 15.0
"""Seconds that a silent standard input may take before an empty part says so."""
_POLL_SECONDS: Final = 0.25


class Kind(Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to send. `parent` is a descriptor that is open until the next entry."""

    kind: Kind
    name: str
    path: str
    status: os.stat_result | None = None
    parent: int | None = None
    target: str = ""

    @property
    def size(self) -> int:
        return self.status.st_size if self.status else 0

    @property
    def mode(self) -> int | None:
        return stat.S_IMODE(self.status.st_mode) if self.status else None

    @property
    def mtime_ns(self) -> int | None:
        return self.status.st_mtime_ns if self.status else None


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Something that was to be sent and cannot be."""

    name: str
    path: str
    error: XferError


class Source(Protocol):
    """Bytes to send. `size` (bytes) is None until it is known."""

    @property
    def size(self) -> int | None: ...

    @property
    def mode(self) -> int | None: ...

    @property
    def mtime_ns(self) -> int | None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def read_into(self, view: memoryview) -> int:
        """Fill the front of `view`; fewer bytes than it holds mean the end, or a pause."""

    def is_at_end(self) -> bool: ...

    def interrupt(self) -> None:
        """Let a read that is under way in another thread return soon."""


class FileSource:
    """An open file, and the size and time that it had then."""

    def __init__(self, entry: Entry) -> None:
        """Open the file. LocalError when it can't be, or is no plain file any more."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            target = os.path.basename(entry.path) if entry.parent is not None else entry.path
            self._descriptor = os.open(target, flags, dir_fd=entry.parent)
        except OSError as error:
            raise _unreadable(entry.path, error) from error
        self._path = entry.path
        self._status = status = os.fstat(self._descriptor)
        self._position = 0
        self.size = status.st_size
        self.mode = stat.S_IMODE(status.st_mode)
        self.mtime_ns = status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):
            os.close(self._descriptor)
            raise LocalError(f"{entry.path} is not a plain file any more")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read_into(self, view: memoryview) -> int:
        """Fill `view` as far as the file goes. LocalError when it changed meanwhile."""
        filled = 0
        try:
            while filled < len(view):
                size = os.readv(self._descriptor, [view[filled:]])
                if not size:
                    break
                filled += size
        except OSError as error:
            raise _unreadable(self._path, error) from error
        self._position += filled
        if filled < len(view) or self.is_at_end():
            self._require_unchanged()
        return filled

    def is_at_end(self) -> bool:
        return self._position >= self._status.st_size

    def interrupt(self) -> None:
        """A plain file never keeps anybody waiting for long."""

    def _require_unchanged(self) -> None:
        """The size is compared with the bytes too: files below /proc have one of 0."""
        now = os.fstat(self._descriptor)
        if (self._position, now.st_size, now.st_mtime_ns) != (self.size, self.size, self.mtime_ns):
            raise LocalError(f"{self._path} changed while it was read")


class StreamSource:
    """Standard input: its size is known once it has ended."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._interrupted = False
        self.size: int | None = None
        self.mode = self.mtime_ns = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass  # standard input is not ours to close

    def read_into(self, view: memoryview) -> int:
        """What came until `view` is full, the stream ends, or patience does."""
        filled = 0
        patience_ends = time.monotonic() + _STREAM_PATIENCE
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        while filled < len(view) and time.monotonic() < patience_ends and not self._interrupted:
            if not poller.poll(_POLL_SECONDS * 1000):
                continue
            size = self._read(view[filled:])
            if not size:
                self.size = self._position + filled
                break
            filled += size
        self._position += filled
        return filled

    def _read(self, view: memoryview) -> int:
        try:
            return os.readv(self._descriptor, [view])
        except OSError as error:
            raise _unreadable("standard input", error) from error

    def is_at_end(self) -> bool:
        return self.size is not None

    def interrupt(self) -> None:
        self._interrupted = True


def walk(paths: Sequence[str], stream_name: str | None = None) -> Iterator[Entry | Unsendable]:
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
    return sum(entry.size for entry in walk(paths) if isinstance(entry, Entry))


def check(paths: Sequence[str], stream_name: str | None = None) -> None:
    """What can be known before connecting. UsageError, or LocalError if nothing is there."""
    _roots(paths, stream_name)
    missing = [path for path in paths if path != STDIN and not os.path.lexists(path)]
    if len(missing) == len(paths):
        raise LocalError(f"no such file or directory: {missing[0]}")


def _roots(paths: Sequence[str], stream_name: str | None) -> list[tuple[str, str]]:
    roots: dict[str, str] = {}
    for path in paths:
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


@dataclass(frozen=True, slots=True)
class _Level:
    """A directory that is being walked: its descriptor, and what is left in it."""

    entry: Entry
    descriptor: int
    children: Iterator[str]


def _descend(name: str, path: str) -> Iterator[Entry | Unsendable]:
    # A list instead of recursion: a name has room for two thousand components.
    levels: list[_Level] = []
    found = _look(name, path, None)
    try:
        while True:
            if isinstance(found, _Level):
                levels.append(found)
            else:
                yield found
            if not levels:
                return
            found = _next_in(levels)
    finally:
        for level in levels:
            os.close(level.descriptor)


def _next_in(levels: list[_Level]) -> Entry | Unsendable | _Level:
    level = levels[-1]
    child = next(level.children, None)
    if child is None:
        os.close(levels.pop().descriptor)
        return level.entry
    name = f"{level.entry.name}/{names.from_bytes(os.fsencode(child))}"
    return _look(name, os.path.join(level.entry.path, child), level.descriptor)


def _look(name: str, path: str, parent: int | None) -> Entry | Unsendable | _Level:
    target = os.path.basename(path) if parent is not None else path
    try:
        names.check(name)
        status = os.stat(target, dir_fd=parent, follow_symlinks=False)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            return _open_level(Entry(Kind.DIRECTORY, name, path, status, parent), target)
        if stat.S_ISLNK(mode):
            text = os.readlink(os.fsencode(target), dir_fd=parent)
            return Entry(Kind.SYMLINK, name, path, status, parent, names.from_bytes(text))
        if stat.S_ISREG(mode):
            return Entry(Kind.FILE, name, path, status, parent)
    except XferError as error:
        return Unsendable(name, path, error)
    except OSError as error:
        return Unsendable(name, path, _unreadable(path, error))
    return Unsendable(name, path, LocalError(f"{path} is {_special(mode)}: not sent"))


def _open_level(entry: Entry, target: str) -> _Level:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(target, flags, dir_fd=entry.parent)
    try:
        return _Level(entry, descriptor, iter(sorted(os.listdir(descriptor))))
    except OSError:
        os.close(descriptor)
        raise


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _unreadable(path: str, error: OSError) -> LocalError:
    if error.errno == errno.ENOENT:
        return LocalError(f"{path} is not there")
    if error.errno == errno.ELOOP:
        return LocalError(f"{path} is not a plain file any more")
    return LocalError(f"{path} cannot be read: {error.strerror}")
