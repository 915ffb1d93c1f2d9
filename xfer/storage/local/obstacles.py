"""What is no directory where a commit needs one: a file that has become a directory.

It is kept as a version, like any older content, before its name shows a directory.
With `IfExists.REFUSE` it stays, and what was to be stored below it is refused.
"""

import contextlib
import stat
from typing import Self

from xfer.storage.contract import IfExists
from xfer.storage.local.layout import Layout
from xfer.storage.local.partials import temporary_name
from xfer.storage.local.pending import PendingItem, taken
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.links import NameAt, replace_by_directory
from xfer.storage.posix.versions import link_version


class Obstacles:
    """Puts directories in their place, for one batch; everything it opens it closes."""

    def __init__(
        self, layout: Layout, if_exists: IfExists | None, flusher: Flusher, directories: Directories
    ) -> None:
        """`directories` are those of the batch, where the obstacles are."""
        self._layout = layout
        self._if_exists = if_exists
        self._flusher = flusher
        self._directories = directories
        self._opened = contextlib.ExitStack()
        self._versions = self._opened.enter_context(Directories(layout.versions))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def clear(self, pending: PendingItem, path: bytes) -> None:
        """Make all components of `path` directories, for the sake of an item.

        Waits for other sessions and for the disk. OSError (ENOTDIR), or `taken`, when what
        is there must stay, and OSError as of `Directories.open`.
        """
        with self._layout.installing:
            while True:
                try:
                    self._directories.open(path)
                except NotADirectoryError:
                    obstacle = self._directories.obstacle(path)
                    if self._if_exists is None:
                        raise taken() from None
                    if self._if_exists is IfExists.REFUSE or obstacle is None:
                        raise
                    self._replace(pending, obstacle)
                else:
                    return

    def _replace(self, pending: PendingItem, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        at = NameAt(self._directories.open(parent), name)
        status = at.status()
        if status is None or stat.S_ISDIR(status.st_mode):
            return  # another program was here
        if self._if_exists is IfExists.VERSION:
            self._layout.restore_versions()
            kept_in = self._versions.open(path)
            link_version(at, kept_in)
            self._versions.changed.add(kept_in)
            self._flusher.flush_names(self._versions.changed, (), has_others=True)
            self._versions.mark_flushed()
            pending.keeps_older = True
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            pending.freed += status.st_size
        self._directories.mark_unflushed([path])
        self._directories.changed.add(at.directory)
        replace_by_directory(
            at, NameAt(self._layout.partials, temporary_name()), self._layout.files.new_mode
        )
