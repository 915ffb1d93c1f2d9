"""What a sender has, and what a receiver wants of it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Final, Literal, TypeVar

from msgspec import Meta

from xfer.wire.messages.base import Message, Object
from xfer.wire.messages.fields import Algorithm, Blake3, Md5, Mode, Size, Text, Time

MAX_OFFERED: Final = 1024
"""Files in one offer."""
_FRAME_FILES: Final = 100
_FRAME_TEXT: Final = 6000
"""UTF-16 units in the names of one frame: JSON takes up to six bytes for each."""
Listed = TypeVar("Listed")
Names = Annotated[tuple[Text, ...], Meta(max_length=MAX_OFFERED)]


class OfferedFile(Object, frozen=True):
    """One file of an offer. The digest of all of it is there if contents are to be compared."""

    file_name: Text
    file_size: Size
    mtime_ns: Time | None = None
    mode: Mode | None = None
    md5: Md5 | None = None
    blake3: Blake3 | None = None

    @property
    def digest(self) -> str | None:
        return self.md5 or self.blake3


class PlannedFile(Object, frozen=True):
    """What is to be done with one offered file.

    "send" it all, "resume" at `offset` (bytes) if the digest of what comes
    before agrees, "skip" it because it is there, or nothing: "refuse" follows
    a refusal.
    """

    file_name: Text
    action: Literal["send", "resume", "skip", "refuse"]
    offset: Size = 0
    md5: Md5 | None = None
    blake3: Blake3 | None = None

    @property
    def digest(self) -> str | None:
        return self.md5 or self.blake3


class Offer(Message, frozen=True, tag="offer"):
    """Sender: what I have. `digest` is the kind that it will use.

    `directories` are names of which it would like to know whether there is anything.
    """

    files: Annotated[tuple[OfferedFile, ...], Meta(max_length=MAX_OFFERED)]
    digest: Algorithm = "md5"
    directories: Names = ()


class Plan(Message, frozen=True, tag="plan"):
    """Receiver: what I want of it, in the order in which it was offered.

    Of the `absent` among the directories, nothing is there.
    """

    files: Annotated[tuple[PlannedFile, ...], Meta(max_length=MAX_OFFERED)]
    absent: Names = ()


def in_frames(
    entries: Iterable[Listed], name_of: Callable[[Listed], str]
) -> Iterator[list[Listed]]:
    """`entries`, as many as fit into one offer or plan, however long their names are."""
    group: list[Listed] = []
    text = 0
    for entry in entries:
        name = name_of(entry)
        units = len(name) if name.isascii() else _units(name)
        if group and (len(group) >= _FRAME_FILES or text + units > _FRAME_TEXT):
            yield group
            group, text = [], 0
        group.append(entry)
        text += units
    if group:
        yield group


def _units(name: str) -> int:
    """JSON spells a character beyond the first 65,536, an emoji for example, as two."""
    return len(name.encode("utf-16-le", "surrogatepass")) // 2
