"""What a store holds, as lines: one for each name, in order and in bounded memory.

    NAME ──▶ Lister ──▶ Listed   a file, a link, a directory with the sum of what is below it,
                                 or an older content and when it was replaced
                    └─▶ Unlisted what could not be looked at, and why

Each directory comes before what is in it.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Final

from msgspec import Struct

from xfer.errors import Code, Refused
from xfer.source.directory_sizes import AtWork, DirectorySizes, Unlisted
from xfer.source.in_order import in_order, most_at
from xfer.storage.reading import Held, HeldKind, StoreReader

ALL: Final = "."
"""What all that there is to see is called where it has a line itself."""


_OFTEN: Final = 256
"""Names that are read between two signs of life."""


class Listed(Struct, frozen=True):
    """What has a name. `size` in bytes, of a directory that of all files below it.

    `kind` is "file", "directory", "symlink" or "other". `mtime_ns` is in nanoseconds since
    1970 and, as `mode` (permission bits), None where it is not known. `target` is a link's.
    Of an older content, `replaced` says when it was (UTC, 20261123T030002.123456Z).
    """

    name: str
    kind: HeldKind
    size: int = 0
    mtime_ns: int | None = None
    mode: int | None = None
    target: str = ""
    replaced: str = ""


class Wanted(Struct, frozen=True):
    """What to list of a name: by default what is in it, if it is a directory.

    recursive   all that is below it; of older contents, also what is below those
    itself      nothing but the name itself
    older       the older contents of it, and of all below it
    snapshots   what snapshots there are, whatever the name
    at          what it was at this stamp, by the snapshots
    """

    recursive: bool = False
    itself: bool = False
    older: bool = False
    snapshots: bool = False
    at: str = ""


Found = Listed | Unlisted


class Lister:
    """Lists names of one store. `at_work` is called for each thing that is looked at."""

    def __init__(
        self, reader: StoreReader, wanted: Wanted, at_work: AtWork, replaced: str = ""
    ) -> None:
        """`replaced` is when all that `reader` sees was."""
        self._reader = reader
        self._wanted = wanted
        self._at_work = at_work
        self._replaced = replaced
        is_whole = wanted.recursive and not wanted.itself
        self._sizes = DirectorySizes(reader, at_work, will_list_all=is_whole)

    def lines(self, name: str) -> Iterator[Found]:
        """Those for one name; of the empty one, for all that there is."""
        try:
            yield from self._older(name) if self._wanted.older else self._present(name)
        except Refused as error:
            yield Unlisted(name or ALL, error)

    def _present(self, name: str) -> Iterator[Found]:
        held = self._reader.look(name)
        if held is None:
            yield Unlisted(name, self._not_there(name))
        elif self._wanted.itself or held.kind is not HeldKind.DIRECTORY:
            yield from self._line(held)
        else:
            yield from self._below(name)

    def _not_there(self, name: str) -> Refused:
        is_older = next(self._reader.versions(name), None)
        more = ", but there are older contents of it: see --versions" if is_older else ""
        return Refused(f"there is no {name}{more}", code=Code.NOT_FOUND)

    def _below(self, directory: str) -> Iterator[Found]:
        levels = [self._children(directory, 0)]
        while levels:  # no recursion, which Python limits: a name can have 2,000 components
            held = next(levels[-1], None)
            if held is None:
                levels.pop()
            elif isinstance(held, Unlisted):
                yield held
            else:
                yield from self._line(held)
                if self._wanted.recursive and held.kind is HeldKind.DIRECTORY:
                    levels.append(self._children(held.name, len(levels)))

    def _children(self, directory: str, depth: int) -> Iterator[Held | Unlisted]:
        try:
            names = partial(self._scan, self._reader.names, directory)
            for name in in_order(names, most_at(depth)):
                if held := self._reader.look(name):
                    yield held
        except Refused as error:
            yield Unlisted(directory or ALL, error)

    def _scan(self, names: Callable[[str], Iterator[str]], directory: str) -> Iterator[str]:
        for number, name in enumerate(names(directory)):
            if number % _OFTEN == 0:
                self._at_work(directory, 0)
            yield name

    def _line(self, held: Held) -> Generator[Found, None, None]:
        size = held.size
        if held.kind is HeldKind.DIRECTORY:
            size = yield from self._sizes.of(held.name)
        if not held.name:
            yield Listed(ALL, held.kind, size)
            return
        yield Listed(
            held.name, held.kind, size, held.mtime_ns, held.mode, held.target, self._replaced
        )

    # Older contents

    def _older(self, name: str) -> Iterator[Found]:
        has_any = False
        for line in self._older_below(name):
            has_any = True
            yield line
        if not has_any and self._reader.look(name) is None:
            yield Unlisted(name, Refused(f"there is no {name}, and never was", code=Code.NOT_FOUND))

    def _older_below(self, name: str) -> Iterator[Found]:
        levels = [iter([name])]
        while levels:
            below = next(levels[-1], None)
            if below is None:
                levels.pop()
                continue
            yield from self._versions(below)
            if not self._wanted.itself:
                names = partial(self._scan, self._reader.older_names, below)
                levels.append(in_order(names, most_at(len(levels))))

    def _versions(self, name: str) -> Iterator[Found]:
        for version in self._reader.versions(name):
            self._at_work(name, 0)
            held = version.held
            if held.kind is HeldKind.DIRECTORY:
                yield from self._older_directory(held, version.replaced)
            else:
                yield Listed(
                    name, held.kind, held.size, held.mtime_ns, held.mode, held.target,
                    version.replaced,
                )  # fmt: skip

    def _older_directory(self, held: Held, replaced: str) -> Iterator[Found]:
        with contextlib.closing(self._reader.older_directory(held.name, replaced)) as reader:
            lister = Lister(reader, self._wanted, self._at_work, replaced)
            yield from lister._line(held)
            if self._wanted.recursive and not self._wanted.itself:
                yield from lister._below(held.name)
