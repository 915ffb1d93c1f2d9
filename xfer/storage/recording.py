"""The part of a store's contract that is about runs, and the snapshots that they become.

    writer.begin_run    what follows in this session belongs to a run
    writer.record       these names are there, and their receipts go out next
    store.commit_run    the run is over: make it a snapshot

A run is a client's: its id is the client's choice, so that its retries and its several
connections are one run, and a commit that is asked for twice is one commit.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct


class Run(Struct, frozen=True):
    """What run it is: its id (32 hex digits), of which job, and what was to be sent from where."""

    run: str
    job: str
    host: str = ""
    roots: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()


class Confirmed(Struct, frozen=True):
    """A name that is stored, or was there: what a snapshot remembers of it.

    `size` in bytes, `mtime_ns` since 1970, `inode` and digest (hex, by its algorithm) are
    those of files; the digest is empty where nobody has read the file.
    """

    name: str
    kind: Literal["file", "directory", "symlink"]
    size: int = 0
    mtime_ns: int | None = None
    mode: int | None = None
    inode: int | None = None
    algorithm: str = ""
    digest: str = ""
    target: str = ""


class EndedRun(Struct, frozen=True):
    """A run that is to become a snapshot.

    `names` is how many different names the client holds receipts for. Without `is_complete`
    something of it has failed, and the snapshot never counts as good. Digests that nobody
    knows are computed with `algorithm`.
    """

    run: str
    job: str
    names: int
    is_complete: bool
    algorithm: str


class Snapshot(Struct, frozen=True):
    """What a run has become: see `snapshots.lines.Footer` for the counts.

    `lost` are names that were confirmed and whose content is not to be found any more.
    """

    stamp: str
    is_complete: bool
    is_held: bool
    names: int
    files: int
    size: int
    new: int
    changed: int
    gone: int
    lost: Sequence[str] = ()


class RunWriter(Protocol):
    """What a writer does for a run. All raise Refused, with a code as for files."""

    def begin_run(self, run: Run) -> None:
        """Record in this run from now on."""

    def record(self, confirmed: Sequence[Confirmed]) -> None:
        """Note that these names are stored. Their receipts must not go out before."""
