"""Which snapshots there are, and what is in them, as one directory below DIR sees it.

A key with a directory sees the names below that, whichever key's snapshot they are in, and
without that directory in front. A snapshot is of names below its own key's directory; so
it has something to show where one of the two directories is in the other, or is the other.

What is damaged is left out, and named once.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from xfer.storage.snapshots.errors import DamagedManifest
from xfer.storage.snapshots.hashing import Beat, Pulse
from xfer.storage.snapshots.lines import Footer, Header, Line, sort_key
from xfer.storage.snapshots.manifest import open_placed
from xfer.storage.snapshots.places import Placed, keys_and_jobs, manifests

AnyLine = TypeVar("AnyLine", bound=Line)


class Snapshot(Struct, frozen=True):
    """One snapshot: where it is, and its first and last line."""

    placed: Placed
    header: Header
    footer: Footer

    @property
    def stamp(self) -> str:
        return self.placed.stamp

    @property
    def is_complete(self) -> bool:
        """Whether it counts as a good one: its name and its footer say so."""
        return self.placed.is_complete and self.footer.complete


class Catalog:
    """The snapshots below an open DIR/.xfer, as seen from a directory. Used by one thread.

    `damaged` has what was found to be so, each once. Every method raises OSError when the
    directories can't be read.
    """

    def __init__(self, state: int, directory: str = "") -> None:
        """`directory` is below DIR, and empty for all of it."""
        self._state = state
        self._directory = directory
        self.damaged: dict[str, DamagedManifest] = {}

    def snapshots(self) -> Iterator[Snapshot]:
        """All, the oldest first, incomplete ones too."""
        return self._opened(sorted(self._placed()))

    def newest_at(self, stamp: str) -> list[Snapshot]:
        """Of each key and job, the newest complete snapshot at or before this moment."""
        newest = []
        for key_id, job in keys_and_jobs(self._state):
            placed = reversed(manifests(self._state, key_id, job))
            wanted = (one for one in placed if one.stamp <= stamp and one.is_complete)
            newest += next(([one] for one in self._opened(wanted) if one.is_complete), [])
        return newest

    def lines(self, snapshot: Snapshot, names: Sequence[str] = ()) -> Iterator[Line]:
        """Those of these names and of what is below them, of all names if there are none given.

        Names are seen from the directory, and in the order of a manifest. DamagedManifest when
        this one is; what came before that is as it was written.
        """
        try:
            yield from self._lines(snapshot.placed, names)
        except DamagedManifest as error:
            self._note(error)
            raise

    def _lines(self, placed: Placed, names: Sequence[str]) -> Iterator[Line]:
        manifest = open_placed(self._state, placed)
        if manifest is None:
            raise DamagedManifest(placed.path, "it was removed meanwhile")
        with manifest:
            seen = map(self._seen, at_or_below(manifest, self._whole(names)))
            yield from filter(None, seen)

    def last_there(self, name: str, before: str, beat: Beat) -> Snapshot | None:
        """The newest complete snapshot before this moment that has the name, or names below it.

        `beat` is called while this takes long, with (0, 0); see `hashing.Beat`.
        """
        pulse = Pulse(beat)
        older = (one for one in self._placed() if one.stamp < before and one.is_complete)
        for placed in sorted(older, reverse=True):
            pulse()
            if self._has(placed, name):
                found = next(self._opened([placed]), None)
                if found and found.is_complete:
                    return found
        return None

    def damaged_ones(self) -> list[Placed]:
        """Where those are that were found to be damaged, the oldest first.

        Only the receiver's owner sees them: nobody knows of which directories they are.
        """
        if self._directory:
            return []
        return sorted(placed for placed in self._placed() if placed.path in self.damaged)

    def shows_all_of(self, snapshot: Snapshot) -> bool:
        """Whether all of its names are seen from here: else its counts and roots tell of others."""
        return is_at_or_below(snapshot.header.directory, self._directory)

    def _has(self, placed: Placed, name: str) -> bool:
        try:
            return next(self._lines(placed, [name]), None) is not None
        except DamagedManifest as error:
            self._note(error)
            return False

    def _placed(self) -> Iterator[Placed]:
        for key_id, job in keys_and_jobs(self._state):
            yield from manifests(self._state, key_id, job)

    def _opened(self, placed: Iterable[Placed]) -> Iterator[Snapshot]:
        """Those of them that can be read, and have something to show here."""
        for one in placed:
            if one.path in self.damaged:
                continue
            try:
                snapshot = self._open(one)
            except DamagedManifest as error:
                self._note(error)
                continue
            if snapshot and self._shows_some_of(snapshot):
                yield snapshot

    def _open(self, placed: Placed) -> Snapshot | None:
        if manifest := open_placed(self._state, placed):
            with manifest:
                return Snapshot(placed, manifest.header(), manifest.footer())
        return None

    def _shows_some_of(self, snapshot: Snapshot) -> bool:
        return self.shows_all_of(snapshot) or is_at_or_below(
            self._directory, snapshot.header.directory
        )

    def _note(self, error: DamagedManifest) -> None:
        self.damaged.setdefault(error.file, error)

    def _whole(self, names: Sequence[str]) -> list[str]:
        """These names below DIR; the directory's own for none; nothing where that is DIR."""
        if not names:
            return [self._directory] if self._directory else []
        return [f"{self._directory}/{name}" if self._directory else name for name in names]

    def _seen(self, line: AnyLine) -> AnyLine | None:
        if not self._directory:
            return line
        seen = line.name[len(self._directory) + 1 :]
        return replace(line, name=seen) if seen else None


def is_at_or_below(directory: str, other: str) -> bool:
    """Whether the first directory is the other one, or in it. Empty is DIR, which has all."""
    return not other or directory == other or directory.startswith(other + "/")


def at_or_below(lines: Iterable[Line], names: Sequence[str]) -> Iterator[Line]:
    """Lines, in order, that have one of these names or are below one; all if there are none.

    Reads no further than it has to.
    """
    if not names:
        yield from lines
        return
    wanted = iter(sorted(map(sort_key, names)))
    current = next(wanted, None)
    for line in lines:
        key = sort_key(line.name)
        while current is not None and key > current and not key.startswith(current + b"\0"):
            current = next(wanted, None)
        if current is None:
            return
        if key.startswith(current) and key[len(current) : len(current) + 1] in (b"", b"\0"):
            yield line
