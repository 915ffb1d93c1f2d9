"""What a sender sends: files and their parts, directories, symbolic links."""

from xfer.errors import ProtocolError
from xfer.wire.messages.base import Message
from xfer.wire.messages.fields import MAX_INTEGER, Blake3, Md5, Mode, Size, Text, Time


class FileHeader(Message, frozen=True, tag="file"):
    """A file, or the part of one that starts at `offset`; `body` raw bytes follow.

    `file_size` (bytes) is None while the sender does not know it, and `length`
    (bytes) None where the body reaches the end of the file. Exactly one of `md5`
    and `blake3` is there: the digest, as hex, of the file's first `offset` +
    `body` bytes. `mode` are permission bits, `mtime_ns` nanoseconds since 1970.

    ProtocolError for a header that contradicts itself, however it is made.
    """

    file_name: Text
    file_size: Size | None
    md5: Md5 | None = None
    blake3: Blake3 | None = None
    offset: Size = 0
    length: Size | None = None
    mode: Mode | None = None
    mtime_ns: Time | None = None

    def __post_init__(self) -> None:
        if (self.md5 is None) is (self.blake3 is None):
            raise ProtocolError("a file message has one digest, md5 or blake3")
        if self.length is None and self.file_size is None:
            raise ProtocolError("a file message without file_size needs a length")
        end = MAX_INTEGER if self.file_size is None else self.file_size
        if not 0 <= self.body <= end - self.offset:
            raise ProtocolError("a file message whose part lies outside the file")

    @property
    def body(self) -> int:
        """How many raw bytes follow this header, worked out from the rest if not said."""
        if self.length is not None:
            return self.length
        return (self.file_size or 0) - self.offset

    @property
    def end(self) -> int:
        """Where in the file this part ends, in bytes."""
        return self.offset + self.body

    @property
    def least_size(self) -> int:
        """How many bytes the file has at least: all of them, if that is known."""
        return self.end if self.file_size is None else self.file_size

    @property
    def is_whole(self) -> bool:
        """Whether the body is all of the file."""
        return self.offset == 0 and self.body == self.file_size

    @property
    def is_last(self) -> bool:
        """Whether the file ends with this part."""
        return self.end == self.file_size

    @property
    def algorithm(self) -> str:
        """The kind of `digest`."""
        return "md5" if self.md5 is not None else "blake3"

    @property
    def digest(self) -> str:
        """The one that is there, as hex."""
        return self.md5 or self.blake3 or ""


class DirectoryHeader(Message, frozen=True, tag="directory"):
    """A directory that has to be there, with this mode and time (as those of a file)."""

    file_name: Text
    mode: Mode | None = None
    mtime_ns: Time | None = None


class SymlinkHeader(Message, frozen=True, tag="symlink"):
    """A symbolic link and the text it holds."""

    file_name: Text
    target: Text
