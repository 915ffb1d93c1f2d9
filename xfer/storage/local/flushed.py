"""What of DIR is on stable storage, of all that this receiver's sessions have not flushed.

It was put there by other programs, or by a receiver before this one. It is

- flushed, if it changed before everything was flushed last (see `barrier`): a tree
  that nobody touches costs one flush, however often it is sent;
- doubtful, if a flush of what changed at that time failed (see `doubtful`);
- else to be flushed before a sender is told that it is there.

syncfs(2) flushes it all where it reports errors, or what is below does. Elsewhere
nothing reports the errors of files that are not opened: there, each file that has
changed since the machine started is flushed by itself, and sync(2) is for the names.
"""

import contextlib
import os
import time
from collections.abc import Sequence

from xfer.errors import LocalError
from xfer.storage.local.doubtful import Doubtful
from xfer.storage.posix.barrier import Barrier
from xfer.storage.posix.filesystems import FileSystem
from xfer.storage.posix.flush import fsync_at_once


class Flushed:
    """Of one store. Any thread may call anything, but for `begin` and `after_fork`."""

    def __init__(self, root: int, state: int, kind: FileSystem, witness: int) -> None:
        """`root` is DIR, `state` its state directory and `witness` a file there, all open and
        the caller's. OSError when something can't be opened or read."""
        self.tells_errors = kind.tells_errors
        self._stale_ns = kind.stale_ns
        self._flushes = True
        self._doubtful = Doubtful(state)
        self._barrier = Barrier(root, kind, witness)

    def begin(self, *, durable: bool) -> None:
        """Flush what an earlier receiver may not have; or note that this one flushes nothing.

        LocalError when the disk fails, or is too full for the note.
        """
        self._flushes = durable
        if not durable:
            try:
                self._doubtful.note_unflushed(self._barrier.now())
            except OSError as error:
                reason = f"cannot note that nothing will be flushed: {error.strerror}"
                raise LocalError(reason) from error
            return
        try:
            self.flush_all()
        except OSError as error:
            raise LocalError(f"the disk fails: {error.strerror}") from error
        self._doubtful.note_flushed()

    def is_doubtful(self, changed_ns: int) -> bool:
        return changed_ns in self._doubtful

    def is_flushed(self, changed_ns: int) -> bool:
        """Whether what changed last at that time is. So it is where nothing is promised."""
        if not self._flushes:
            return True
        changed_ns += self._stale_ns
        is_recent = not self.tells_errors and changed_ns >= self._barrier.booted_ns
        return not is_recent and self._barrier.covers(changed_ns)

    def flush_all(self, changed_ns: int | None = None) -> None:
        """Flush everything, unless what changed at this time is flushed. OSError if that fails:
        what has changed since the flush before is doubtful then."""
        changed_ns = None if changed_ns is None else changed_ns + self._stale_ns
        try:
            self._barrier.flush(changed_ns)
        except OSError:
            self.note_failure()
            raise

    def flush_each(self, descriptors: Sequence[int]) -> list[int]:
        """Flush open files; those that failed, and are doubtful."""
        failed = list(fsync_at_once(descriptors))
        if failed:
            changed = [os.fstat(one).st_ctime_ns for one in failed]
            self.note_failure(min(changed), max(changed))
        return failed

    def note_failure(self, since: int = 0, until: int = 0) -> None:
        """What changed in this time, 0 for unknown and for now, may look right in memory only.

        If it is not known since when, then since the last flush of everything, or else
        since the machine started.
        """
        if not since:
            since = self._barrier.last_ns or self._barrier.booted_ns
            since = min(since, self._doubtful.unflushed_since or since)
        with contextlib.suppress(OSError):  # the disk fails: it is known to this process at least
            until = until or max(time.time_ns(), since)
            self._doubtful.note(since - self._stale_ns, until + self._stale_ns)

    def after_fork(self) -> None:
        """Be one of several processes, each of which is told of failures. OSError if it can't."""
        self._barrier.after_fork()
        self._doubtful.load()

    def close(self) -> None:
        self._barrier.close()
