"""One local store for several processes, which are forked once it is open.

They inherit what it has open, the lock on its directory among it: that is held
until the last of them has ended. What one process keeps in its own memory is
shared, or made anew by each: see `installing`, `unflushed` and, for temporary
names, `partial`. The books of quotas are not shared: a store that needs them is
for one process.
"""

import mmap

from xfer.errors import LocalError
from xfer.storage.local.layout import Layout
from xfer.storage.posix.flush import flush_all
from xfer.storage.posix.unflushed import SharedUnflushed, Tables


class WorkerState:
    """Memory that so many workers share. Make it before they are forked."""

    def __init__(self, workers: int) -> None:
        self._files = Tables(workers)
        self._versions = Tables(workers)
        self._has_lost = mmap.mmap(-1, 1)

    def after_fork(
        self, layout: Layout, number: int, predecessor: int | None, *, durable: bool
    ) -> None:
        """Be the worker with this number, in a process that was just forked.

        `predecessor` is the process, killed since, that had the number before.
        LocalError or OSError when it cannot be cleaned up behind that one.
        """
        layout.share_installing()
        files = SharedUnflushed(self._files, number)
        versions = SharedUnflushed(self._versions, number)
        if predecessor is not None:
            layout.remove_temporary(predecessor)
            if durable:
                self._flush_all(layout)
            if not self._has_lost[0]:
                files.forget_predecessor()
                versions.forget_predecessor()
        layout.files.unflushed = files
        layout.versions.unflushed = versions

    def _flush_all(self, layout: Layout) -> None:
        """A flush that fails says so once; the next one succeeds, and has repaired nothing."""
        try:
            flush_all(layout.root)
        except LocalError:
            self._has_lost[0] = 1
            raise
