"""The snapshots of one job while one of them is being made: nobody else makes any meanwhile."""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final, Self

from msgspec import Struct

from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.links import NameAt, link_or_rename
from xfer.storage.snapshots import stamps
from xfer.storage.snapshots.draft import MOST_NAMED
from xfer.storage.snapshots.errors import DamagedManifest
from xfer.storage.snapshots.hashing import Pulse
from xfer.storage.snapshots.lines import FailedLine, Footer
from xfer.storage.snapshots.manifest import Manifest, open_placed
from xfer.storage.snapshots.places import (
    SNAPSHOTS,
    Placed,
    lock_in,
    manifests,
    open_below,
    remove_temporary,
    require_job,
)

_LOOK_SECONDS: Final = 0.1
_LOOKED_AT: Final = 32
"""Of the newest snapshots, for a run that has become one."""


class Committed(Struct, frozen=True):
    """What has become of a run: its snapshot's stamp, and what that has.

    `failures` are the first of those that the receiver found no content for.
    """

    stamp: str
    footer: Footer
    failures: tuple[FailedLine, ...] = ()


class JobDirectory:
    """DIR/.xfer/snapshots/KEY/JOB, open and locked. Closed as a context. One thread uses it.

    Methods raise OSError.
    """

    def __init__(self, state: int, key_id: str, job: str, pulse: Pulse | None = None) -> None:
        """Below an open DIR/.xfer; made if missing.

        Waits for whoever has it, with signs of life; without, it raises BlockingIOError.
        Refused (quota) for one job too many.
        """
        require_job(state, key_id, job)
        self._state = state
        self.key_id = key_id
        self.job = job
        self._known: list[Placed] | None = None
        with contextlib.ExitStack() as opened:
            self._chain = [state]
            for component in (SNAPSHOTS, key_id, job):
                below = open_below(self._chain[-1], component, create=True)
                opened.callback(os.close, below)
                self._chain.append(below)
            self.directory = self._chain[-1]
            opened.callback(os.close, _wait_for_lock(self.directory, pulse))
            remove_temporary(self.directory)  # of who was killed, having had the lock
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def find(self, run: str, after: str = "") -> Committed | None:
        """What a run has become already. One that was given up can still become a snapshot.

        All that are newer than `after` are looked at, and some more: a session that was
        forgotten on the way may have begun the run once more since.
        """
        for number, placed in enumerate(reversed(self._placed())):
            if number >= _LOOKED_AT and placed.stamp <= after:
                break
            with contextlib.suppress(DamagedManifest):
                manifest = open_placed(self._state, placed)
                if found := manifest and _committed(manifest, placed, run):
                    return found
        return None

    @contextlib.contextmanager
    def before(self, damaged: set[str]) -> Iterator[Manifest | None]:
        """The newest complete snapshot, open; not one whose path is known to be damaged."""
        for placed in reversed(self._placed()):
            is_candidate = placed.is_complete and placed.path not in damaged
            if is_candidate and (manifest := self._open_complete(placed)):
                with manifest:
                    yield manifest
                return
        yield None

    def _open_complete(self, placed: Placed) -> Manifest | None:
        with contextlib.suppress(DamagedManifest):
            if manifest := open_placed(self._state, placed):
                if _is_complete(manifest):
                    return manifest
                manifest.close()
        return None

    def next_stamp(self) -> str:
        """Later than those of all snapshots, whatever the clock says. Refused if none is."""
        placed = self._placed()
        return stamps.next_after(placed[-1].stamp) if placed else stamps.now()

    def place(self, draft: str, file: int, placed: Placed, flusher: Flusher) -> None:
        """Give a manifest, flushed under a temporary name, its own one, on stable storage."""
        at = NameAt(self.directory, placed.file.encode())
        self._known = None
        link_or_rename(draft.encode(), self.directory, at)
        try:
            self.flush_names(flusher, file)
        except OSError:
            with contextlib.suppress(OSError):  # else the next one to ask would take it for safe
                os.unlink(at.name, dir_fd=self.directory)
            raise

    def flush_names(self, flusher: Flusher, *files: int) -> None:
        """Bring the names in this directory, and those of all above it, onto stable storage."""
        flusher.flush_names(self._chain, files, has_others=True)

    def _placed(self) -> list[Placed]:
        """Nobody else places one; who removes one by hand is met where it is opened."""
        if self._known is None:
            self._known = manifests(self._state, self.key_id, self.job)
        return self._known


def _wait_for_lock(directory: int, pulse: Pulse | None) -> int:
    while True:
        try:
            return lock_in(directory)
        except BlockingIOError:
            if pulse is None:
                raise
            pulse()
            time.sleep(_LOOK_SECONDS)


def _committed(manifest: Manifest, placed: Placed, run: str) -> Committed | None:
    """What a manifest, which is closed then, says of the run; None if it is another one's."""
    with manifest:
        header = manifest.header()
        if header.run != run or header.abandoned:
            return None
        return Committed(placed.stamp, manifest.footer(), _failures(manifest))


def _failures(manifest: Manifest) -> tuple[FailedLine, ...]:
    if not manifest.footer().failed:
        return ()
    failed = [line for line in manifest if isinstance(line, FailedLine)]
    return tuple(failed[:MOST_NAMED])


def _is_complete(manifest: Manifest) -> bool:
    try:
        return manifest.footer().complete
    except DamagedManifest:
        return False
