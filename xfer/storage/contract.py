"""The contract between a receiver and a store: whatever keeps the files that arrive.

To write another kind of store, make the classes below, and list it in the contract
tests, tests/storage/test_store_contract.py.

    Store             one for a receiver; knows the place, a directory for example
    StoreWriter       one for a session, from `Store.open_writer`
    Partial           one for a file that is arriving; nobody sees it yet
    StoredFileReader  one for a stored file while it is read
    StoreReader       for those who may read what is stored, see `reading`

How a file gets into a store:

    writer.require, count   may it be stored, and is there room?
    writer.create_partial   or find_partial: what an earlier session kept of it
    partial.reserve         room for all of it
    partial.write           its bytes, in order, as they arrive
    partial.finish          its mode and time, after the last byte
    writer.commit           puts many files under their names at once

`commit` alone makes anything visible, and receipts are sent for what it returns. A
name shows nothing, its old content or the whole new content, whatever is killed.

Errors: `Refused` is what a sender is told, with one of the codes no_space, quota, too_large,
bad_name, exists, busy (try again) and storage. Any other exception ends the session.

Threads: the sessions of all senders use one `Store`. A `StoreWriter`, and what it returns,
belongs to one session, which has two threads: its own, and one in the background.

- Nearly everything is called in the session's own thread. Long reading (`read_at`, and `write`
  for a copy) is done in the background while that one waits. So they need no lock.
- The exception is what `commit` yields. That may be called in the background while the
  session's thread creates partials, writes to them and asks about names. Nothing else
  touches the partials of that batch.

Names are relative, with "/" between components, and safe (see `names.check`). Sizes are bytes.
"""

from collections.abc import Callable, Generator, Sequence
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from xfer.errors import Refused
from xfer.outcomes import Outcome
from xfer.storage.reading import Beat, Readable, StoredFileReader, StoreReader
from xfer.storage.recording import EndedRun, RunWriter, Snapshot

PARTIAL_DAYS: Final = 7.0
"""For so long after its last change a partial is kept for a later session, by default."""


class IfExists(StrEnum):
    """When a name has other content, the old one is kept, wins, or is lost (no directory is)."""

    VERSION = "version"
    REFUSE = "refuse"
    REPLACE = "replace"


class Limits(Struct, frozen=True):
    """What may be stored at most, None for any number; `min_free` is what stays free on the disk.

    `max_files` is for the names that one session creates, `quota` for all that a sender has.
    """

    max_file_size: int | None = None
    max_files: int | None = None
    quota: int | None = None
    min_free: int | None = None


class Access(Struct, frozen=True):
    """What one sender has of a store: all below `directory`; None is what all senders have.

    One that only `adds` learns nothing of what is stored, and changes nothing of it: a name
    that is taken stays as it is, even where the content is the same. What is `gone` from a
    complete snapshot becomes a version.
    """

    directory: str = ""
    if_exists: IfExists | None = None
    quota: int | None = None
    adds: bool = False
    gone: bool = False


class Metadata(Struct, frozen=True):
    """Permission bits, and the time of the last change (nanoseconds since 1970), if known."""

    mode: int | None = None
    mtime_ns: int | None = None


class StoredFile(Struct, frozen=True):
    """A stored file. If it `has_other_names` (hard links), its mode and time must not change.

    One that is not `flushed` was put there by somebody else, and a power cut may take it.
    """

    size: int
    mode: int
    mtime_ns: int
    has_other_names: bool = False
    inode: int | None = None
    flushed: bool = True


class Partial(Readable, Protocol):
    """A file that is arriving, of which `size` bytes are here.

    In the end it is committed, kept for a later session, or discarded. The commit sets
    `previous_host`, the machine that wrote what it replaced, if it is known and not the
    sender's, and in a run `stored`: what has its name then.
    """

    previous_host: str
    stored: StoredFile | None

    def reserve(self, size: int) -> None:
        """Have room for `size` bytes in all, before they come. Refused when there is none."""

    def write(self, data: bytes | memoryview) -> None:
        """Append; `data` may be overwritten then. Refused when there is no room, or it fails."""

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes only. Refused when the store fails."""

    def reload(self) -> None:
        """Have what was written so far read from where it is kept. Refused when some is lost."""

    def finish(self, metadata: Metadata) -> None:
        """All bytes are written, and this is their metadata. Refused when the store fails."""

    def keep(self) -> None:
        """Leave it to a later session, if it has a name to be found by; else discard it."""

    def discard(self) -> None:
        """Leave nothing behind. Safe at any time, twice, and after a commit."""


class NewFile(Struct, frozen=True):
    """A finished partial, and its name."""

    name: str
    partial: Partial


class NewDirectory(Struct, frozen=True):
    """A directory, which is made if it is missing, and its metadata."""

    name: str
    metadata: Metadata


class NewSymlink(Struct, frozen=True):
    """A symbolic link. `target` is its text; a store never follows it."""

    name: str
    target: str


Item = NewFile | NewDirectory | NewSymlink
"""What a commit puts under a name."""


CommitSteps = Generator[Callable[[], None], None, list[Outcome | Refused]]
"""A commit under way. It yields what has to wait for a disk, a network or another session.

    steps = writer.commit(items)
    for wait in steps:      # in the session's own thread: each step to the next yield is quick
        wait()              # there or in the background: it has returned before the next step

It returns one result for each item. What goes wrong with an item is its result, and not raised.
"""


TakeOver = Callable[[str], bool]
"""Ask for the partial of a name that another session has; whether that session let go of it."""


def take_nothing_over(_: str) -> bool:
    """Leave each partial to the session that has it."""
    return False


class StoreWriter(RunWriter, Protocol):
    """One session's way into a store. `durable` as in `Store`."""

    durable: bool

    def require(self, name: str, size: int, have: int = 0) -> None:
        """Refused when a file of `size` bytes, `have` of which are here, would not be taken."""

    def count(self, name: str) -> None:
        """Something of this name is about to arrive. Refused (quota) when it is one too many."""

    def create_partial(self, name: str | None = None, size: int | None = None) -> Partial:
        """An empty partial; with a `name`, a later session finds it by that if it is kept.

        `size` is that of the file, if known. Refused when there is no room for it, the store
        fails, or (busy) another session has the partial.
        """

    def find_partial(self, name: str) -> Partial | None:
        """The partial that an earlier session of the same sender kept; None if there is none.

        Refused as `create_partial`.
        """

    def kept(self, files: Sequence[str]) -> set[str]:
        """Those of `files` for which `find_partial` may find something, or more than those."""

    def statuses(self, files: Sequence[str]) -> list[StoredFile | None]:
        """The stored file under each name, if there is one that can be relied on.

        Of a session's own it is on stable storage; else it may have to be `flush_stored`.
        """

    def flush_stored(self, files: Sequence[str]) -> set[str]:
        """Flush stored files that are not `flushed`; those of which the content may be lost.

        They are not stored any more then, whatever seems to be there. Called in the background.
        """

    def absent(self, directories: Sequence[str]) -> list[str]:
        """Those of these names under which there is nothing at all, and so nothing below them."""

    def open_stored(self, name: str) -> StoredFileReader | None:
        """The stored file under this name; None where none is, or it can't be read."""

    def held_time(self, mtime_ns: int | None) -> int | None:
        """The time that a file has once it was given this one: not every store holds all times."""

    def set_metadata(self, name: str, metadata: Metadata) -> bool:
        """Change the metadata of a stored file, if the store can; False if it must not change."""

    def commit(self, items: Sequence[Item]) -> CommitSteps:
        """Put each item under its name; one result for each, in the same order.

        A name occurs once in a batch; directories above it are made. In the end, each item
        that is not Refused is on stable storage, bytes and name. One that is Refused harms no
        other, and changed nothing under its name, unless it was the last flush that failed. No
        partial of the batch is left. A writer has one commit under way at a time.
        """

    def finish(self) -> None:
        """The sender is done, and the last commit is over.

        A directory made on the way to a name is private until it is committed. One that never
        was gets the default mode, unless another session of the sender is open.
        """

    def close(self) -> None:
        """After the last commit. Partials that are still open are kept or discarded before."""


class Store(Protocol):
    """Keeps files. `limits` hold for each sender whose `Access` has no other ones.

    `durable` says whether `commit` really waits for stable storage; so do receipts.
    """

    durable: bool
    limits: Limits

    def open_writer(
        self,
        owner: str,
        access: Access = Access(),  # noqa: B008 (frozen)
        take_over: TakeOver = take_nothing_over,
        host: str = "",
    ) -> StoreWriter:
        """For a new session of the sender with the key id `owner`. Refused when the store fails.

        `take_over` is called for a partial that another session has, before the new
        one is Refused (busy). The store remembers, if it can, which machine (`host`)
        wrote a file.
        """

    def open_reader(self, access: Access) -> StoreReader:
        """What is below the directory of `access`, for a session that may read it."""

    def commit_run(self, owner: str, access: Access, ended: EndedRun, beat: Beat) -> Snapshot:
        """Make a run of the key id `owner` a snapshot, or say what it became before.

        Refused, (lines_lost) when it has recorded fewer names than it must have.
        What `beat` raises ends it, too, and the run stays as it was.
        """

    def tidy(self) -> None:
        """Remove partials that no session came back for; called now and then. OSError is logged."""
