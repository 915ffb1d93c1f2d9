"""Names that a power cut may still take: made by some batch, and not flushed yet.

Nobody may say of such a name that it is there (`skip`), and whoever puts
something into such a directory flushes the one above it, too. A name is added
before it is made, and removed once a flush that began after that has succeeded.
So after a flush that failed it stays here for good.

`Unflushed` is for one process. With several, each of them has to know of the
names that the others make: `SharedUnflushed` counts in memory that they share.

- Each worker counts in a table of its own, which nobody else writes to, so
  that no lock is needed between them. All tables are read: a name is unflushed
  as long as any worker's count of it is not 0.
- A name is added before the system call that makes it, and looked up after the
  system call that finds it. Whoever finds a name has entered the same directory
  in the kernel after its maker, and so sees what that one had counted.
- Names are counted by their hash. Two that share one are both unflushed while
  one is: then a file travels once more, or a directory is flushed twice. The
  mistake that would be a lie, a name taken for flushed, is not made.
- Of a worker that was killed the counts stay. Whoever takes its place flushes
  the whole file system before it clears them, as a receiver does that starts
  after one that was killed.
"""

import mmap
import threading
from array import array
from collections.abc import Iterable
from typing import Final

_CELLS: Final = 2**18
"""A session has some 500 names unflushed at once: of so many one in 500 shares its hash then."""
_CELL: Final = "I"
_CELL_BYTES: Final = array(_CELL).itemsize


class Unflushed:
    """In the memory of one process; any thread may call anything."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._counting = threading.Lock()

    def __contains__(self, path: bytes) -> bool:
        return path in self._counts

    def add(self, paths: Iterable[bytes]) -> None:
        with self._counting:
            for path in paths:
                self._counts[path] = self._counts.get(path, 0) + 1

    def remove(self, paths: Iterable[bytes]) -> None:
        """As often as a path was added, it has to be removed."""
        with self._counting:
            for path in paths:
                if left := self._counts[path] - 1:
                    self._counts[path] = left
                else:
                    del self._counts[path]


class Tables:
    """Memory for one table for each of so many workers. Make it before they are forked."""

    def __init__(self, workers: int) -> None:
        self.cells = memoryview(mmap.mmap(-1, workers * _CELLS * _CELL_BYTES)).cast(_CELL)


class SharedUnflushed(Unflushed):
    """What one worker, the one with this number, sees of the tables of all."""

    def __init__(self, tables: Tables, number: int) -> None:
        super().__init__()
        self._cells = tables.cells
        self._own = tables.cells[number * _CELLS : (number + 1) * _CELLS]

    def __contains__(self, path: bytes) -> bool:
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
        """What the worker with this number has made before is flushed."""
        self._own[:] = array(_CELL, bytes(_CELLS * _CELL_BYTES))


def _cell(path: bytes) -> int:
    """Forked processes have the same seed; nobody outside can choose names that collide."""
    return hash(path) % _CELLS
