"""What a sender sends: files and their parts, directories, links."""

from dataclasses import dataclass, field
from typing import ClassVar

from xfer.errors import ProtocolError
from xfer.messages.base import Message, check
from xfer.messages.validation import (
    BLAKE3,
    MAX_INTEGER,
    MD5,
    MODE,
    SIZE,
    SIZE_OR_NONE,
    TEXT,
    TIME,
)


@dataclass(frozen=True, slots=True)
class FileHeader(Message):
    """A file, or the part of one that starts at `offset`; `body` raw bytes follow.

    `file_size` (bytes) is None while the sender does not know it. Exactly one
    of `md5` and `blake3` is there: the digest, as hex, of the file's first
    `offset` + `body` bytes. `mode` are permission bits, `mtime_ns` nanoseconds
    since 1970.
    """

    type: ClassVar = "file"
    file_name: str = field(metadata=TEXT)
    file_size: int | None = field(metadata=SIZE_OR_NONE)
    md5: str | None = field(default=None, metadata=MD5)
    blake3: str | None = field(default=None, metadata=BLAKE3)
    offset: int = field(default=0, metadata=SIZE)
    length: int | None = field(default=None, metadata=SIZE)
    mode: int | None = field(default=None, metadata=MODE)
    mtime_ns: int | None = field(default=None, metadata=TIME)

    def __post_init__(self) -> None:
        check(self)
        if (self.md5 is None) is (self.blake3 is None):
            raise ProtocolError("a file message has one digest, md5 or blake3")
        if self.length is None and self.file_size is None:
            raise ProtocolError("a file message without file_size needs a length")
        end = MAX_INTEGER if self.file_size is None else self.file_size
        if not 0 <= self.body <= end - self.offset:
            raise ProtocolError("a file message whose part lies outside the file")

    @property
    def body(self) -> int:
        """How many raw bytes follow this header."""
        if self.length is not None:
            return self.length
        return (self.file_size or 0) - self.offset

    @property
    def end(self) -> int:
        """Where in the file this part ends, in bytes."""
        return self.offset + self.body

    @property
    def least_size(self) -> int:
        """How many bytes the file has, as far as this header says."""
        return self.end if self.file_size is None else self.file_size

    @property
    def is_whole(self) -> bool:
        """Whether the body is all of the file."""
        return self.offset == 0 and self.body == self.file_size

    @property
    def is_last(self) -> bool:
        return self.end == self.file_size

    @property
    def algorithm(self) -> str:
        return "md5" if self.md5 is not None else "blake3"

    @property
    def digest(self) -> str:
        return self.md5 or self.blake3 or ""


@dataclass(frozen=True, slots=True)
class DirectoryHeader(Message):
    """A directory, to be there with this mode and time."""

    type: ClassVar = "directory"
    file_name: str = field(metadata=TEXT)
    mode: int | None = field(default=None, metadata=MODE)
    mtime_ns: int | None = field(default=None, metadata=TIME)


@dataclass(frozen=True, slots=True)
class SymlinkHeader(Message):
    """A symbolic link and the text it holds."""

    type: ClassVar = "symlink"
    file_name: str = field(metadata=TEXT)
    target: str = field(metadata=TEXT)
