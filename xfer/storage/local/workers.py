"""One local store for several workers: processes that are forked once it is open.

They inherit its open descriptors and the lock on its directory, which is held
until the last of them has ended. What a store keeps in the memory of one process
is shared between them, or each has its own:

- `Layout.installing` and `changing_modes`, locks between threads, become locks
  between processes.
- `Tree.is_unflushed` looks into memory that all workers share.
- Temporary names have the number of the process in them (see `partials`).

The ledger of quotas is not shared: a store that needs it has one process.
"""

import mmap

from xfer.storage.local.layout import Layout
from xfer.storage.posix.unflushed import SharedUnflushed, Tables


class WorkerState:
    """Memory that so many workers share. Made before they are forked, and inherited."""

    def __init__(self, workers: int) -> None:
        self._files = Tables(workers)
        self._versions = Tables(workers)
        # One byte, set by any worker and never cleared: so it needs no lock.
        self._has_failed_flush = mmap.mmap(-1, 1)

    def after_fork(
        self, layout: Layout, number: int, predecessor: int | None, *, durable: bool
    ) -> None:
        """Be the worker with this number, in a process that was just forked and has one thread.

        `predecessor` is the id of the process, killed since, that had the number
        before: its temporary names are removed, and the names that it may not
        have flushed are flushed. OSError when that fails.
        """
        layout.share_locks()
        layout.flushed.after_fork()
        files = SharedUnflushed(self._files, number)
        versions = SharedUnflushed(self._versions, number)
        if predecessor is not None:
            layout.remove_temporary(predecessor)
            if durable:
                self._flush_all(layout)
            if not self._has_failed_flush[0]:
                files.forget_predecessor()
                versions.forget_predecessor()
        layout.files.share(files)
        layout.versions.share(versions)

    def _flush_all(self, layout: Layout) -> None:
        """The kernel reports a failed flush once: the next one succeeds, and has repaired nothing.

        So from the first failure on no worker takes a predecessor's names for flushed.
        """
        try:
            layout.flushed.flush_all()
        except OSError:
            self._has_failed_flush[0] = 1
            raise
