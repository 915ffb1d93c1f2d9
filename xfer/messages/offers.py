"""What a sender has, and what a receiver wants of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeVar

from xfer.messages.base import USABLE, Message, Object, check, unusable
from xfer.messages.parsing import made
from xfer.messages.validation import (
    BLAKE3,
    DIGEST_BYTES,
    MD5,
    MODE,
    SIZE,
    TEXT,
    TIME,
    Check,
    one_of,
)

MAX_OFFERED: Final = 1024
"""Files in one offer."""
ACTIONS: Final = ("send", "resume", "skip", "refuse")
_ACTION: Final = one_of(ACTIONS)
_ALGORITHM: Final = one_of(tuple(DIGEST_BYTES))
_FILES: Final[Check] = {
    USABLE: lambda value: isinstance(value, list | tuple) and len(value) <= MAX_OFFERED
}
_FRAME_FILES: Final = 100
_FRAME_TEXT: Final = 6000
"""UTF-16 units in the names of one frame: JSON takes up to six bytes for each."""
Item = TypeVar("Item")
Listed = TypeVar("Listed", "OfferedFile", "PlannedFile")


@dataclass(frozen=True, slots=True)
class OfferedFile(Object):
    """One file of an offer. The digest of all of it is there if contents are to be compared."""

    type: ClassVar = "offer"
    file_name: str = field(metadata=TEXT)
    file_size: int = field(metadata=SIZE)
    mtime_ns: int | None = field(default=None, metadata=TIME)
    mode: int | None = field(default=None, metadata=MODE)
    md5: str | None = field(default=None, metadata=MD5)
    blake3: str | None = field(default=None, metadata=BLAKE3)

    @property
    def digest(self) -> str | None:
        return self.md5 or self.blake3


@dataclass(frozen=True, slots=True)
class PlannedFile(Object):
    """What is to be done with one offered file.

    "send" it all, "resume" at `offset` (bytes) if the digest of what comes
    before agrees, "skip" it because it is there, or nothing: "refuse" follows
    a refusal.
    """

    type: ClassVar = "plan"
    file_name: str = field(metadata=TEXT)
    action: str = field(metadata=_ACTION)
    offset: int = field(default=0, metadata=SIZE)
    md5: str | None = field(default=None, metadata=MD5)
    blake3: str | None = field(default=None, metadata=BLAKE3)

    @property
    def digest(self) -> str | None:
        return self.md5 or self.blake3


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """Sender: what I have. `digest` is the kind that it will use."""

    type: ClassVar = "offer"
    files: tuple[OfferedFile, ...] = field(metadata=_FILES)
    digest: str = field(default="md5", metadata=_ALGORITHM)

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "files", _listed(self.files, OfferedFile))


@dataclass(frozen=True, slots=True)
class Plan(Message):
    """Receiver: what I want of it, in the order in which it was offered."""

    type: ClassVar = "plan"
    files: tuple[PlannedFile, ...] = field(metadata=_FILES)

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "files", _listed(self.files, PlannedFile))


def in_frames(items: Iterable[Item], name_of: Callable[[Item], str]) -> Iterator[list[Item]]:
    """`items` by as many as fit into one offer or plan, however long their names are."""
    group: list[Item] = []
    text = 0
    for item in items:
        units = _units(name_of(item))
        if group and (len(group) >= _FRAME_FILES or text + units > _FRAME_TEXT):
            yield group
            group, text = [], 0
        group.append(item)
        text += units
    if group:
        yield group


def _units(name: str) -> int:
    """JSON spells a character beyond the first 65,536, an emoji for example, as two."""
    return len(name) if name.isascii() else len(name.encode("utf-16-le", "surrogatepass")) // 2


def _listed(items: Iterable[object], kind: type[Listed]) -> tuple[Listed, ...]:
    """The files of an offer or a plan, whether made here or parsed from the wire."""
    return tuple(item if isinstance(item, kind) else _parsed(kind, item) for item in items)


def _parsed(kind: type[Listed], item: object) -> Listed:
    if not isinstance(item, dict):
        raise unusable(kind, "files")
    return made(kind, item)
