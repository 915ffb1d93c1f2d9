"""The contract between the receiver and whatever keeps the files.

A store takes bytes into partials and, in batches, puts them under their names.
`commit` is the only step that makes anything visible, and what it reports is
on stable storage. A kind of store is one module here; the same contract tests
run against each.
"""

from collections.abc import Callable, Generator, Sequence
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from xfer.errors import Refused
from xfer.outcomes import Outcome

PARTIAL_DAYS: Final = 7.0
"""For so long a partial waits for somebody to come back for it."""


class IfExists(StrEnum):
    """What happens to other content that already has a name."""

    VERSION = "version"
    REFUSE = "refuse"
    REPLACE = "replace"


class Limits(Struct, frozen=True):
    """What may be stored: sizes in bytes, None for as much as there is.

    `quota` is for everything below the directory of one sender, older versions
    and what is arriving included, `max_files` for what one session creates, and
    `min_free` stays free on the disk.
    """

    max_file_size: int | None = None
    max_files: int | None = None
    quota: int | None = None
    min_free: int | None = None


class Access(Struct, frozen=True):
    """What one sender sees of a store, and what holds for it alone.

    Its names are below `directory`; empty for all of the store. None leaves
    what holds for everybody.
    """

    directory: str = ""
    if_exists: IfExists | None = None
    quota: int | None = None


class Metadata(Struct, frozen=True):
    """What is kept beside the bytes: permission bits, and nanoseconds since 1970."""

    mode: int | None = None
    mtime_ns: int | None = None


class StoredFile(Struct, frozen=True):
    """A whole file that is there under its name: size in bytes, and metadata.

    What `has_other_names` must not be changed: it may be somebody else's.
    """

    size: int
    mode: int
    mtime_ns: int
    has_other_names: bool = False


class Readable(Protocol):
    """Bytes in the store; `size` of them."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, view: memoryview) -> int:
        """Fill the front of `view`; how many bytes. Refused when the store fails."""


class StoredFileReader(Readable, Protocol):
    """A whole file, open for reading."""

    def close(self) -> None: ...


class Partial(Readable, Protocol):
    """Bytes on their way to becoming a file; nobody sees them yet."""

    def reserve(self, size: int) -> None:
        """Have room for `size` bytes in all, before they come. Refused when there is none."""

    def write(self, data: bytes | memoryview) -> None:
        """Append. Refused when the store has no room, or fails."""

    def truncate(self, size: int) -> None:
        """Forget what comes after the first `size` bytes. Refused when the store fails."""

    def finish(self, metadata: Metadata) -> None:
        """No more bytes will come. Refused when the store fails."""

    def keep(self) -> None:
        """Leave it for a later session, if it can be found again; else discard it."""

    def forget_name(self) -> None:
        """It has become a file by being renamed: there is nothing to discard but the handle."""

    def discard(self) -> None:
        """Leave nothing behind. Safe to call at any time, and twice."""


class NewFile(Struct, frozen=True):
    name: str
    partial: Partial


class NewDirectory(Struct, frozen=True):
    name: str
    metadata: Metadata


class NewSymlink(Struct, frozen=True):
    name: str
    target: str


Item = NewFile | NewDirectory | NewSymlink


CommitSteps = Generator[Callable[[], None], None, list[Outcome | Refused]]
"""Work that stops where something has to be waited for.

It yields what waits, to be called in whichever thread before it goes on, and
returns one result for each item.
"""


class StoreWriter(Protocol):
    """One sender's way into a store. One thread uses it, but for what commits wait for."""

    durable: bool

    def require(self, name: str, size: int, have: int = 0) -> None:
        """Refused when a file of `size` bytes, `have` of them here, would not be taken."""

    def count(self, name: str) -> None:
        """Something of this name is about to arrive. Refused when it is one too many."""

    def create_partial(self, name: str | None = None, size: int | None = None) -> Partial:
        """An empty partial, which a later session finds again by `name` if it has one.

        `size` (bytes) is how large it will get, as far as known. Refused when
        there is no room for it, when the store fails, and (busy) when another
        session has the partial of that name.
        """

    def find_partial(self, name: str) -> Partial | None:
        """The partial that an earlier session of this sender kept. Refused (busy) as above."""

    def kept(self, files: Sequence[str]) -> set[str]:
        """Those of which `find_partial` may find something."""

    def statuses(self, files: Sequence[str]) -> list[StoredFile | None]:
        """The whole files under these names; None where nothing or something else is."""

    def absent(self, directories: Sequence[str]) -> list[str]:
        """Those of these names of which there is nothing at all, and so nothing below them."""

    def open_stored(self, name: str) -> StoredFileReader | None:
        """The whole file under this name, for reading; None as above."""

    def set_metadata(self, name: str, metadata: Metadata) -> None:
        """Change a whole file's metadata, as far as the store allows."""

    def commit(self, items: Sequence[Item]) -> CommitSteps:
        """Put each item under its name; one result for each, in order.

        When it is over, everything that is not Refused is on stable storage,
        bytes and name; an item that is Refused changed nothing that anybody
        could see under its name, unless it was the last flush that failed.
        Names are safe (see `names.check`) and occur once in a batch.
        """

    def close(self) -> None: ...


class Store(Protocol):
    """Keeps files. Used by many threads at once.

    `durable` says whether `commit` really waits for stable storage, and
    `limits` what it takes of anybody.
    """

    durable: bool
    limits: Limits

    def open_writer(self, owner: str, access: Access = Access()) -> StoreWriter:  # noqa: B008 (frozen)
        """A way in for the sender with this key id. Refused when the store fails."""

    def tidy(self) -> None:
        """Remove partials that nobody came back for; called now and then."""
