"""The contract between the receiver and whatever keeps the files.

A store takes bytes into partials and, in batches, puts them under their names.
`commit` is the only step that makes anything visible, and what it reports is
on stable storage. A kind of store is one module here; the same contract tests
run against each.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from xfer.errors import Code, Refused


class Outcome(StrEnum):
    """What became of a name; the words that a receipt carries."""

    STORED = "stored"
    VERSIONED = "versioned"
    UNCHANGED = "unchanged"


class IfExists(StrEnum):
    """What happens to other content that already has a name."""

    VERSION = "version"
    REFUSE = "refuse"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is kept beside the bytes: permission bits, and nanoseconds since 1970."""

    mode: int | None = None
    mtime_ns: int | None = None


class Partial(Protocol):
    """Bytes on their way to becoming a file; nobody sees them yet."""

    def write(self, data: bytes | memoryview) -> None:
        """Append. Refused when the store has no room, or fails."""

    def finish(self, metadata: Metadata) -> None:
        """No more bytes will come. Refused when the store fails."""

    def discard(self) -> None:
        """Leave nothing behind. Safe to call at any time, and twice."""


@dataclass(frozen=True, slots=True)
class NewFile:
    name: str
    partial: Partial


@dataclass(frozen=True, slots=True)
class NewDirectory:
    name: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class NewSymlink:
    name: str
    target: str


Item = NewFile | NewDirectory | NewSymlink


class Intake(Protocol):
    """One sender's way into a store; one thread uses it."""

    def create_partial(self) -> Partial:
        """An empty partial. Refused when the store fails."""

    def commit(self, items: Sequence[Item]) -> list[Outcome | Refused]:
        """Put each item under its name; one result for each, in order.

        When it returns, everything that is not Refused is on stable storage,
        bytes and name; an item that is Refused changed nothing that anybody
        could see under its name, unless it was the last flush that failed.
        Names are safe (see `names.check`) and occur once in a batch.
        """

    def close(self) -> None: ...


class Store(Protocol):
    """Keeps files. Used by many threads at once."""

    def open_intake(self) -> Intake:
        """Refused when the store fails."""


def refusal(error: OSError) -> Refused:
    """What the sender is told when the operating system would not do it."""
    code, message = _REASONS.get(
        error.errno or 0, (Code.STORAGE, "the receiver could not store it; its log says why")
    )
    return Refused(message, code=code)


_REASONS: dict[int, tuple[Code, str]] = {
    errno.ENOSPC: (Code.NO_SPACE, "no space left on the receiver's disk"),
    errno.EDQUOT: (Code.QUOTA, "the receiver's disk quota is used up"),
    errno.EFBIG: (Code.TOO_LARGE, "too large for the receiver's file system"),
    errno.ENAMETOOLONG: (Code.BAD_NAME, "the name is too long for the receiver's file system"),
    errno.EILSEQ: (Code.BAD_NAME, "the receiver's file system cannot hold this name"),
    errno.EINVAL: (Code.BAD_NAME, "the receiver's file system cannot hold this name"),
    errno.EMFILE: (Code.BUSY, "the receiver has too many files open"),
    errno.ENFILE: (Code.BUSY, "the receiver has too many files open"),
    errno.EROFS: (Code.STORAGE, "the receiver's directory is read-only"),
    errno.EACCES: (Code.STORAGE, "the receiver may not write there"),
    errno.EPERM: (Code.STORAGE, "the receiver may not write there"),
    errno.EXDEV: (Code.STORAGE, "the receiver keeps another file system there"),
    errno.EISDIR: (Code.EXISTS, "a directory has this name on the receiver"),
    errno.ENOTDIR: (Code.EXISTS, "something that is no directory is in the way on the receiver"),
    errno.ELOOP: (Code.EXISTS, "a symbolic link is in the way on the receiver"),
}
