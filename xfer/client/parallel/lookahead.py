"""The entries of a job that were found and not handed out yet: a bounded part of a walk.

    walk ──▶ large files, largest first ──▶ pop
         ──▶ small files, in order ───────▶
         ──▶ everything else, in order ───▶   a directory once all in it is finished
         ──▶ standard input ──────────────▶ pop_stream

Large files go first, so that connections that share a job are done at about
the same time. The rest stays in the order of the walk: neighbours share a
directory, which each side then opens once. All of it is guarded by the lock of
the queue that has it.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, TypeGuard

from msgspec import Struct

from xfer.sending.batches import OPEN_DIRECTORIES
from xfer.source.tree import Entry, Found, Kind

ENTRY_WEIGHT: Final = 64 * 1024
"""What an entry costs beside its bytes, in bytes that travel in the same time."""
_MAX_ENTRIES: Final = 2048
_LARGE: Final = 1024 * 1024
_BATCH_ENTRIES: Final = 100


def weight(found: Found) -> int:
    """How much work it is, in bytes."""
    return ENTRY_WEIGHT + (found.size if _is_file(found) else 0)


class Lookahead:
    """Pulls entries from `walk`, a limited number at a time, and orders them."""

    def __init__(self, walk: Iterable[Found]) -> None:
        self.weight = 0
        """Of everything in it, see `weight`."""
        self.walk_ended = False
        self._walk = iter(walk)
        self._stream: Entry | None = None
        self._large: list[tuple[int, int, Entry]] = []
        """A heap by size. The second number is unique: entries cannot be compared."""
        self._pushed = 0
        self._small: deque[Entry] = deque()
        self._others: deque[Found] = deque()
        self._open: Counter[int] = Counter()
        """How many entries hold each open directory, by its id."""
        self._directories = Directories()

    def __len__(self) -> int:
        return self.files + len(self._others) + self.has_stream

    @property
    def files(self) -> int:
        """How many plain files are in it."""
        return len(self._large) + len(self._small)

    @property
    def has_stream(self) -> bool:
        """Whether standard input is in it."""
        return self._stream is not None

    def has_more(self, *, files_only: bool) -> bool:
        """Whether `pop` would return something."""
        return self.files > 0 or bool(self._others and not files_only)

    def fill(self) -> None:
        """Walk on until enough was found, or too many directories are open for it."""
        while (
            not self.walk_ended and len(self) < _MAX_ENTRIES and len(self._open) < OPEN_DIRECTORIES
        ):
            found = next(self._walk, None)
            if found is None:
                self.walk_ended = True
                return
            self._directories.found(found.name)
            if not isinstance(found, Entry) or found.kind is not Kind.DIRECTORY:
                self.add(found)
            elif ready := self._directories.left(found):
                self.add(ready)

    def add(self, found: Found) -> None:
        """Put in an entry to be handed out, perhaps again."""
        if isinstance(found, Entry) and found.kind is Kind.STREAM:
            self._stream = found
            return
        self.weight += weight(found)
        if isinstance(found, Entry) and found.parent:
            self._open[id(found.parent)] += 1
        if not _is_file(found):
            self._others.append(found)
        elif found.size < _LARGE:
            self._small.append(found)
        else:
            self._pushed += 1
            heapq.heappush(self._large, (-found.size, self._pushed, found))

    def pop_stream(self) -> Entry | None:
        """Standard input, if it is in it."""
        stream, self._stream = self._stream, None
        return stream

    def pop(self, max_weight: float, max_directories: int, *, files_only: bool) -> list[Found]:
        """The next entries, up to that weight and that many open directories.

        A single entry may be heavier. Empty if there is none for the moment.
        """
        popped: list[Found] = []
        total = 0
        parents: set[int] = set()
        while (
            total < max_weight and len(popped) < _BATCH_ENTRIES and len(parents) < max_directories
        ):
            found = self._next(files_only=files_only)
            if found is None:
                break
            popped.append(found)
            total += weight(found)
            if isinstance(found, Entry) and found.parent:
                parents.add(id(found.parent))
                self._release(id(found.parent))
        self.weight -= total
        return popped

    def finished(self, name: str) -> None:
        """Nothing more will come of this name. Its directory may have waited for that."""
        if ready := self._directories.finished(name):
            self.add(ready)

    def _next(self, *, files_only: bool) -> Found | None:
        if self._others and not files_only:
            return self._others.popleft()
        if self._large:
            return heapq.heappop(self._large)[2]
        return self._small.popleft() if self._small else None

    def _release(self, directory: int) -> None:
        self._open[directory] -= 1
        if not self._open[directory]:
            del self._open[directory]


class _Contents(Struct):
    """How much in a directory is not finished, and the directory once the walk has left it."""

    unfinished: int = 0
    directory: Entry | None = None


class Directories:
    """Decides when a directory may be sent: when everything in it is finished.

    Directories come last because each file that is stored in one changes its
    time, and a read-only mode would keep the rest out. Where something in it
    has to be tried again, it waits for that, and so do its own parents.
    """

    def __init__(self) -> None:
        self._contents: dict[str, _Contents] = {}

    def found(self, name: str) -> None:
        """The walk has found this name."""
        parent = _parent(name)
        if parent:
            self._contents.setdefault(parent, _Contents()).unfinished += 1

    def left(self, directory: Entry) -> Entry | None:
        """The walk has found everything in `directory`. Returns it if it can be sent."""
        contents = self._contents.setdefault(directory.name, _Contents())
        contents.directory = directory
        return self._pop_ready(directory.name, contents)

    def finished(self, name: str) -> Entry | None:
        """Nothing more will come of this name. Returns its directory if that can be sent now."""
        parent = _parent(name)
        contents = self._contents.get(parent)
        if contents is None:
            return None
        contents.unfinished -= 1
        return self._pop_ready(parent, contents)

    def _pop_ready(self, name: str, contents: _Contents) -> Entry | None:
        if contents.directory and not contents.unfinished:
            del self._contents[name]
            return contents.directory
        return None


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _is_file(found: Found) -> TypeGuard[Entry]:
    return isinstance(found, Entry) and found.kind is Kind.FILE
