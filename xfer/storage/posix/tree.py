"""The tree that directories are opened and made in: its root, and what holds for all below it.

What is not known of a directory yet, its mode and whether its name is on stable
storage, is known here, for all batches and sessions.
"""

import errno
import os
import stat
from collections.abc import Iterable
from typing import Final

from xfer.errors import Code, Refused
from xfer.storage.posix.files import DEFAULT_DIRECTORY_MODE
from xfer.storage.posix.unflushed import SharedUnflushed, Unflushed

_UNTIL_KNOWN: Final = 0o1700
"""The mode of a directory below DIR that was made on the way to a name, until its own is known:
private to the receiver. The sticky bit, which no sender can set, tells it from one that is meant
to be private, after a restart too."""


def awaits_mode(status: os.stat_result) -> bool:
    """Whether this directory was made on the way to a name, and its own mode is not known yet."""
    return stat.S_IMODE(status.st_mode) & ~stat.S_ISGID == _UNTIL_KNOWN


def give_default_mode(directory: int) -> None:
    """Give an open directory that awaits its mode the one that any program would have given it.

    What it has inherited from the directory above, its set-group-id bit, stays.
    """
    status = os.fstat(directory)
    if awaits_mode(status):
        os.fchmod(directory, DEFAULT_DIRECTORY_MODE | status.st_mode & stat.S_ISGID)


class Tree:
    """A root, open, below which directories are opened and made. Any thread may use it.

    `forbidden` is the (device, inode) of a directory that must not be entered:
    its name is not enough, for a file system that folds case or ignores
    characters has more names for it than can be listed.
    """

    def __init__(
        self, root: int, forbidden: tuple[int, int] | None = None, *, new_mode: int = _UNTIL_KNOWN
    ) -> None:
        """`new_mode` is that of directories that are made on the way to a name."""
        self.root = root
        self.new_mode = new_mode
        self.forbidden = forbidden
        self._device = os.fstat(root).st_dev
        self._unflushed = Unflushed()  # replaced by `share` only; has a lock of its own

    def require_own(self, status: os.stat_result) -> None:
        """Raise for a directory that was opened below the root, and is none of this tree's.

        Refused (bad_name) for the forbidden one, and OSError (EXDEV) for one on another
        file system: no flush of ours reaches what is stored there.
        """
        if (status.st_dev, status.st_ino) == self.forbidden:
            raise Refused("unsafe name: it is the receiver's own", code=Code.BAD_NAME)
        if status.st_dev != self._device:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def share(self, unflushed: SharedUnflushed) -> None:
        """Count unflushed names together with other workers. Call it before any thread starts."""
        self._unflushed = unflushed

    def is_unflushed(self, path: bytes) -> bool:
        """Whether a batch has made the name `path`, and a power cut may still take it.

        A batch that puts something into such a directory flushes the directory
        above it, too. See `unflushed` for when a name stays unflushed for good.
        """
        return path in self._unflushed

    def add_unflushed(self, paths: Iterable[bytes]) -> None:
        """Call it before a name is made."""
        self._unflushed.add(paths)

    def remove_unflushed(self, paths: Iterable[bytes]) -> None:
        """Call it once for each time that a path was added, after a flush has succeeded."""
        self._unflushed.remove(paths)
