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
"""UTF-16 units in the names of one frame: JSON takes up to six bytes for each, and the
other keys of its files take the rest of the 65,536 bytes of a frame."""
Listed = TypeVar("Listed")
Names = Annotated[tuple[Text, ...], Meta(max_length=MAX_OFFERED)]


class OfferedFile(Object, frozen=True):
    """One file of an offer. With the digest of all of it, if contents are to be compared.

    `file_size` in bytes, `mtime_ns` in nanoseconds since 1970, digests as hex.
    """

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
    """What the sender is to do with one offered file.

    "send" all of it; "resume" at `offset` (bytes) if its digest of what comes
    before is the one given here; "skip" it, because it is there; or "refuse",
    nothing, because there was a refusal for it. `differs` if the receiver has
    other content than the offered digest stands for, although size and time agree.
    """

    file_name: Text
    action: Literal["send", "resume", "skip", "refuse"]
    offset: Size = 0
    md5: Md5 | None = None
    blake3: Blake3 | None = None
    differs: bool = False

    @property
    def digest(self) -> str | None:
        return self.md5 or self.blake3


class Offer(Message, frozen=True, tag="offer"):
    """Sender: the files it has. `digest` is the kind that it will use.

    It also asks at which of the names in `directories` there is nothing yet.
    """

    files: Annotated[tuple[OfferedFile, ...], Meta(max_length=MAX_OFFERED)]
    digest: Algorithm = "md5"
    directories: Names = ()


class Plan(Message, frozen=True, tag="plan"):
    """Receiver: what it wants of an offer, in the order of that.

    `absent` are those of the offer's `directories` at which there is nothing.
    """

    files: Annotated[tuple[PlannedFile, ...], Meta(max_length=MAX_OFFERED)]
    absent: Names = ()


def in_frames(
    entries: Iterable[Listed], name_of: Callable[[Listed], str]
) -> Iterator[list[Listed]]:
    """Lists of `entries`, each of which fits into one offer or plan, however long the names."""
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
    """JSON may write a character beyond the first 65,536 as two escapes, an emoji for example."""
    return len(name.encode("utf-16-le", "surrogatepass")) // 2
