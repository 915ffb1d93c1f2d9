"""What a sender has, and what a receiver wants of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from xfer.errors import ProtocolError
from xfer.messages import validation as check
from xfer.messages.base import Message
from xfer.messages.keys import known
from xfer.messages.validation import DIGEST_BYTES

MAX_OFFERED: Final = 1024
"""Files in one offer."""
ACTIONS: Final = ("send", "resume", "skip", "refuse")
_FRAME_FILES: Final = 100
_FRAME_TEXT: Final = 6000
"""Characters in the names of one frame: each takes up to six bytes."""
Item = TypeVar("Item")
Listed = TypeVar("Listed", "OfferedFile", "PlannedFile")


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """One file of an offer. The digest of all of it is there if contents are to be compared."""

    type: ClassVar = "offer"
    file_name: str
    file_size: int
    mtime_ns: int | None = None
    mode: int | None = None
    md5: str | None = None
    blake3: str | None = None

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.whole(self, "file_size", 0)
        check.metadata(self)
        check.digests(self)

    @property
    def digest(self) -> str | None:
        return self.md5 or self.blake3


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """What is to be done with one offered file.

    "send" it all, "resume" at `offset` (bytes) if the digest of what comes
    before agrees, "skip" it because it is there, or nothing: "refuse" follows
    a refusal.
    """

    type: ClassVar = "plan"
    file_name: str
    action: str
    offset: int = 0
    md5: str | None = None
    blake3: str | None = None

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.whole(self, "offset", 0)
        check.digests(self)
        if self.action not in ACTIONS:
            raise check.fault(self, "action")

    @property
    def digest(self) -> str | None:
        return self.md5 or self.blake3


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """Sender: what I have. `digest` is the kind that it will use."""

    type: ClassVar = "offer"
    files: tuple[OfferedFile, ...]
    digest: str = "md5"

    def __post_init__(self) -> None:
        if self.digest not in DIGEST_BYTES:
            raise check.fault(self, "digest")
        object.__setattr__(self, "files", _listed(self, OfferedFile))


@dataclass(frozen=True, slots=True)
class Plan(Message):
    """Receiver: what I want of it, in the order in which it was offered."""

    type: ClassVar = "plan"
    files: tuple[PlannedFile, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", _listed(self, PlannedFile))


def in_frames(items: Iterable[Item], name_of: Callable[[Item], str]) -> Iterator[list[Item]]:
    """`items` by as many as fit into one offer or plan, however long their names are."""
    group: list[Item] = []
    text = 0
    for item in items:
        text += len(name_of(item))
        if group and (len(group) >= _FRAME_FILES or text > _FRAME_TEXT):
            yield group
            group, text = [], len(name_of(item))
        group.append(item)
    if group:
        yield group


def _listed(message: Any, kind: type[Listed]) -> tuple[Listed, ...]:
    """The files of an offer or a plan, whether made here or parsed from the wire."""
    items = message.files
    if not isinstance(items, list | tuple) or len(items) > MAX_OFFERED:
        raise check.fault(message, "files")
    return tuple(item if isinstance(item, kind) else _parsed(kind, item) for item in items)


def _parsed(kind: type[Listed], item: object) -> Listed:
    if not isinstance(item, dict):
        raise ProtocolError(f"a file of a {kind.type} message that is no object")
    try:
        return kind(**known(kind, item))
    except TypeError as error:
        raise ProtocolError(f"a file of a {kind.type} message lacks a key") from error
