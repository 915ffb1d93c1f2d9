"""What of a job is in sight and not handed out yet: a bounded part of a walk of any length.

Large files leave it first, the largest of them before all others, so that
connections that share a job are done at about the same time. The rest leaves
it in the order of the walk, which spares directories on both sides.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, TypeGuard

from msgspec import Struct
from msgspec.structs import replace

from xfer.sending.batches import OPEN_DIRECTORIES
from xfer.source.tree import Entry, Found, Kind

ENTRY_WEIGHT: Final = 64 * 1024
"""What an entry costs beside its bytes, in bytes that travel in the same time."""
_IN_SIGHT: Final = 2048
_LARGE: Final = 1024 * 1024
_BATCH_ENTRIES: Final = 100


def weight(found: Found) -> int:
    """How much work it is, in bytes."""
    return ENTRY_WEIGHT + (found.size if isinstance(found, Entry) and _is_file(found) else 0)


class Lookahead:
    """Pulls from `walk` as far as it may. A directory is in it once `Directories` says so."""

    def __init__(self, walk: Iterable[Found]) -> None:
        self.weight = 0
        """Of all that is in it, see `weight`."""
        self.stream: Entry | None = None
        """Standard input, if it was found and nobody has taken it."""
        self.is_all = False
        """Whether the walk has ended."""
        self._walk = iter(walk)
        self._large: list[tuple[int, int, Entry]] = []
        self._small: deque[Entry] = deque()
        self._others: deque[Found] = deque()
        self._found = 0
        self._open: Counter[int] = Counter()
        self._directories = Directories()

    def __len__(self) -> int:
        return len(self._large) + len(self._small) + len(self._others) + bool(self.stream)

    @property
    def files(self) -> int:
        """How many plain files are in it."""
        return len(self._large) + len(self._small)

    def has_more(self, *, files_only: bool) -> bool:
        """Whether `pop` would find something."""
        return self.files > 0 or bool(self._others and not files_only)

    def fill(self) -> None:
        """Look on, as long as what is in sight stays small and holds few directories open."""
        while not self.is_all and len(self) < _IN_SIGHT and len(self._open) < OPEN_DIRECTORIES:
            found = next(self._walk, None)
            if found is None:
                self.is_all = True
                return
            self._directories.found(found.name)
            if not isinstance(found, Entry) or found.kind is not Kind.DIRECTORY:
                self.add(found)
            elif ready := self._directories.left(replace(found, parent=None)):
                self.add(ready)

    def add(self, found: Found) -> None:
        """It is to be handed out, perhaps again."""
        if isinstance(found, Entry) and found.kind is Kind.STREAM:
            self.stream = found
            return
        self.weight += weight(found)
        if isinstance(found, Entry) and found.parent:
            self._open[id(found.parent)] += 1
        if not _is_file(found):
            self._others.append(found)
        elif found.size < _LARGE:
            self._small.append(found)
        else:
            self._found += 1  # entries of one size have no order of their own
            heapq.heappush(self._large, (-found.size, self._found, found))

    def pop(self, most: float, most_directories: int, *, files_only: bool) -> list[Found]:
        """What is next, up to a weight of `most`, or one entry that is heavier."""
        taken: list[Found] = []
        total = 0
        parents: set[int] = set()
        while total < most and len(taken) < _BATCH_ENTRIES and len(parents) < most_directories:
            found = self._next(files_only=files_only)
            if found is None:
                break
            taken.append(found)
            total += weight(found)
            if isinstance(found, Entry) and found.parent:
                parents.add(id(found.parent))
                self._let_go(id(found.parent))
        self.weight -= total
        return taken

    def finished(self, name: str) -> None:
        """It is over and done with; the directory that it is in may have waited for that."""
        if ready := self._directories.finished(name):
            self.add(ready)

    def _next(self, *, files_only: bool) -> Found | None:
        if self._others and not files_only:
            return self._others.popleft()
        if self._large:
            return heapq.heappop(self._large)[2]
        return self._small.popleft() if self._small else None

    def _let_go(self, directory: int) -> None:
        self._open[directory] -= 1
        if not self._open[directory]:
            del self._open[directory]


class _Contents(Struct):
    """How much in a directory is not finished, and itself once the walk has left it."""

    unfinished: int = 0
    directory: Entry | None = None


class Directories:
    """When a directory may go: its mode and time are the last word on all that is in it.

    Its turn comes when the walk has left it and everything in it is finished.
    Where something is not, because it has to be tried again, the directory
    waits for that, and so do those that it is in.
    """

    def __init__(self) -> None:
        self._contents: dict[str, _Contents] = {}

    def found(self, name: str) -> None:
        """There is something of this name."""
        parent = _parent(name)
        if parent:
            self._contents.setdefault(parent, _Contents()).unfinished += 1

    def left(self, directory: Entry) -> Entry | None:
        """The walk has found all that is in `directory`; itself if its turn has come."""
        contents = self._contents.setdefault(directory.name, _Contents())
        contents.directory = directory
        return self._whose_turn_it_is(directory.name, contents)

    def finished(self, name: str) -> Entry | None:
        """Nothing more will come of this name; the directory whose turn has come by that."""
        parent = _parent(name)
        contents = self._contents.get(parent)
        if contents is None:
            return None
        contents.unfinished -= 1
        return self._whose_turn_it_is(parent, contents)

    def _whose_turn_it_is(self, name: str, contents: _Contents) -> Entry | None:
        if contents.directory and not contents.unfinished:
            del self._contents[name]
            return contents.directory
        return None


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _is_file(found: Found) -> TypeGuard[Entry]:
    return isinstance(found, Entry) and found.kind is Kind.FILE
