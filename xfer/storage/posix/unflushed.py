"""Names that a batch has made and not flushed yet: a power cut may still take them.

No session may say of such a name that it is stored (`skip`), and a batch that
puts something into such a directory flushes the directory above it, too. A name
is added before it is made, and removed after a flush that began later has
succeeded. When the flush fails, it is never removed.

`Unflushed` is for a receiver of one process. With several workers, each has to
know of the names that the others make: `SharedUnflushed` counts them in memory
that the workers share.

- Each worker counts in a table of its own, which no other worker writes to, so
  that they need no lock between them. All tables are read: a name is unflushed
  as long as the count in any of them is not 0.
- A name is added before the system call that makes it, and looked up after the
  system call that finds it. The kernel orders the two calls, and what comes
  before the one and after the other: a worker that finds a name sees its count.
- Names are counted by their hash. If two have the same, both are unflushed
  while one is: then a file is sent once more, or a directory flushed twice.
  What must not happen, that an unflushed name counts as flushed, cannot.
- The counts of a worker that was killed stay. The worker that takes its number
  flushes the whole file system before it clears them, as a receiver does when
  it starts.
"""

import mmap
import threading
from array import array
from collections.abc import Iterable
from typing import Final

_CELLS: Final = 2**18
"""In one table. A session has some 500 unflushed names at once: one other name in 500 shares a
cell with one of them then."""
_CELL: Final = "I"
_CELL_BYTES: Final = array(_CELL).itemsize


class Unflushed:
    """How many batches have made each name and not flushed it. Any thread may call anything."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._counting = threading.Lock()
        """Guards the counts against lost updates, in `add` and `remove`."""

    def __contains__(self, path: bytes) -> bool:
        """Without the lock: one lookup of bytes in one dict is atomic, whatever other threads do.

        The answer may be outdated a moment later, and a lock would not change that.
        """
        return path in self._counts

    def add(self, paths: Iterable[bytes]) -> None:
        """Call it before the names are made."""
        with self._counting:
            for path in paths:
                self._counts[path] = self._counts.get(path, 0) + 1

    def remove(self, paths: Iterable[bytes]) -> None:
        """Remove each path once; one that was added twice is still unflushed."""
        with self._counting:
            for path in paths:
                if left := self._counts[path] - 1:
                    self._counts[path] = left
                else:
                    del self._counts[path]


class Tables:
    """Memory for one table for each of so many workers. Made before they are forked."""

    def __init__(self, workers: int) -> None:
        self.cells = memoryview(mmap.mmap(-1, workers * _CELLS * _CELL_BYTES)).cast(_CELL)


class SharedUnflushed(Unflushed):
    """The names of all workers, as one of them sees them: it adds to the table of its number.

    Any thread may call anything.
    """

    def __init__(self, tables: Tables, number: int) -> None:
        super().__init__()
        self._cells = tables.cells
        self._own = tables.cells[number * _CELLS : (number + 1) * _CELLS]

    def __contains__(self, path: bytes) -> bool:
        """Without a lock: a count is 32 bits, aligned, and is read whole. See the module."""
        return any(self._cells[_cell(path) :: _CELLS])

    def add(self, paths: Iterable[bytes]) -> None:
        with self._counting:
            for path in paths:
                self._own[_cell(path)] += 1

    def remove(self, paths: Iterable[bytes]) -> None:
        with self._counting:
            for path in paths:
                self._own[_cell(path)] -= 1

    def forget_predecessor(self) -> None:
        """Clear the table: what the previous worker of this number made is flushed.

        Call it before any thread of this worker starts.
        """
        self._own[:] = array(_CELL, bytes(_CELLS * _CELL_BYTES))


def _cell(path: bytes) -> int:
    """The same in all workers, which inherit the seed of `hash`; no sender can know that seed."""
    return hash(path) % _CELLS
