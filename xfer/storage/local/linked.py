"""A tree as it was, of hard links: on the receiver's own disk it takes no room.

Each file is opened and checked by its digest, and then that very file gets another name.
It is the store's own file still: whoever writes to it changes what the store has. So the
directories are read-only, and nothing is done to the files.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from xfer.errors import Code, LocalError, Refused, XferError
from xfer.names import to_bytes
from xfer.storage.posix.files import OpenFile
from xfer.storage.reading import Beat, Held, HeldKind, PastReader

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LinkedName(Struct, frozen=True):
    """One name of the tree, or why it is not there."""

    held: Held
    name: str
    error: XferError | None = None


def link_tree(past: PastReader, name: str, to: str, beat: Beat) -> Iterator[LinkedName]:
    """Make what had this name, and all below it, in `to`, under its last component.

    Nothing that is there is touched: a name that is taken fails. LocalError when `to` is not
    there. Where there was nothing, nothing is yielded.
    """
    above = len(name) - len(name.rpartition("/")[2])
    try:
        root = os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LocalError(f"cannot write to {to}: {error.strerror}") from error
    made: list[Held] = []
    try:
        for held in past.walk([name] if name else []):
            failure = _failure(past, held, held.name[above:], root, beat)
            if held.kind is HeldKind.DIRECTORY and failure is None:
                made.append(held)
            yield LinkedName(held, held.name[above:], failure)
        for held in reversed(made):  # once nothing more is made in them
            _close_to_writers(held, held.name[above:], root)
    finally:
        os.close(root)


def _failure(past: PastReader, held: Held, name: str, root: int, beat: Beat) -> XferError | None:
    try:
        with _parent_of(name, root) as (directory, own):
            _make(past, held, own, directory, beat)
    except FileExistsError:
        return Refused(f"{name} is there already", code=Code.EXISTS)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return LocalError(f"{name} cannot be linked: another file system than the store's")
        return LocalError(f"{name} cannot be made: {error.strerror}")
    except (LocalError, Refused) as error:
        return error
    return None


def _make(past: PastReader, held: Held, own: bytes, directory: int, beat: Beat) -> None:
    if held.kind is HeldKind.DIRECTORY:
        os.mkdir(own, 0o700, dir_fd=directory)
    elif held.kind is HeldKind.SYMLINK:
        os.symlink(to_bytes(held.target), own, dir_fd=directory)
    else:
        opened = past.open(held, beat)
        if not isinstance(opened, OpenFile):
            raise LocalError(f"the content that {held.name} had then is not kept any more")
        with contextlib.closing(opened):
            opened.link(own, directory)


def _close_to_writers(held: Held, name: str, root: int) -> None:
    """A directory's own time, and the mode that it had but for writing."""
    with contextlib.suppress(OSError), _parent_of(f"{name}/", root) as (directory, _):
        os.fchmod(directory, (0o755 if held.mode is None else held.mode) & 0o555)
        if held.mtime_ns is not None:
            os.utime(directory, ns=(held.mtime_ns, held.mtime_ns))


@contextlib.contextmanager
def _parent_of(name: str, root: int) -> Iterator[tuple[int, bytes]]:
    """The open directory of a name below `root`, no component of which is followed."""
    *parents, own = to_bytes(name).split(b"/")
    current = os.dup(root)
    try:
        for component in parents:
            below = os.open(component, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        yield current, own
    finally:
        os.close(current)
