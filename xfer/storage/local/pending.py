"""The items of one commit on their way: what each step knows of them, and how each ended.

A step is done for each item that is undecided. What fails for one item refuses
that item and no other; a flush that fails refuses all that it was for.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct

from xfer.errors import Code, Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import Item
from xfer.storage.local.partials import LocalPartial
from xfer.storage.os_errors import refusal
from xfer.storage.posix.links import NOWHERE, NameAt

FileId = tuple[int, int]
"""Device and inode: the same file, whatever name it has."""


class PendingItem(Struct):
    """One item of a commit, and what the steps have found out about it so far.

    `path` is its name in bytes, and `at` the same name in its open directory.
    `is_taken` says that something has the name, or that it can't be linked.
    """

    item: Item
    partial: LocalPartial | None = None
    path: bytes = b""
    at: NameAt = NOWHERE
    is_taken: bool = False

    # Of an item whose name is taken (see `replacement`)
    ready: bytes = b""
    """The name in partials/ of what takes the place: the partial, or a symbolic link."""
    compared: FileId | None = None
    """The file that it was last compared with. If another one has the name, compare again."""
    versioned: FileId | None = None
    """What has been linked into versions/."""
    previous_host: str = ""
    """The other machine that had written that content, if it is known."""
    replaces: bool = False
    renews: bool = False
    """It replaces a file with the same content, which the disk may not have."""
    moves: bool = False
    """Its name shows a directory, which is moved to versions/."""
    keeps_older: bool = False
    """Something that is no directory has become a version, for there must be one."""
    freed: int = 0
    """Bytes of older content that is gone once the item is placed."""

    outcome: Outcome | Refused | None = None
    """None while it is undecided."""

    @property
    def result(self) -> Outcome | Refused:
        """What became of it, once the commit is over."""
        if self.outcome is Outcome.STORED and self.keeps_older:
            return Outcome.VERSIONED
        return self.outcome or Refused("not stored")

    @property
    def is_stored(self) -> bool:
        """Whether its content is under its name now, and was not before."""
        return self.outcome in (Outcome.STORED, Outcome.VERSIONED)


def undecided(batch: Iterable[PendingItem]) -> list[PendingItem]:
    return [pending for pending in batch if pending.outcome is None]


def each(batch: Iterable[PendingItem], action: Callable[[PendingItem], None]) -> None:
    """Do `action` for each item; one for which it raises OSError or Refused is refused."""
    for pending in batch:
        try:
            action(pending)
        except OSError as error:
            pending.outcome = _refused(error)
        except Refused as error:
            pending.outcome = error


def flush_for(batch: Iterable[PendingItem], flush: Callable[[], None]) -> bool:
    """Do `flush`; whether that succeeded. If not, every item of the batch is refused.

    Even one that was stored already: what the flush was for may be lost.
    """
    try:
        flush()
    except OSError as error:
        for pending in batch:
            if not isinstance(pending.outcome, Refused):
                pending.outcome = _refused(error)
        return False
    return True


def taken() -> Refused:
    """All that a sender is told that only adds, whatever has the name or one above it."""
    return Refused("this name is taken", code=Code.EXISTS)


def _refused(error: OSError) -> Refused:
    """What the sender is told; the log gets its cause, too."""
    refused = refusal(error)
    refused.__cause__ = error
    return refused
