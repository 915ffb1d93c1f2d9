"""Messages: one frozen dataclass for each, validated when made.

A field of a class is the key of the same name on the wire; a field that holds
its default is left out there. `parse` and `encode` turn payloads into messages
and messages into frames. Which names are safe to store is not decided here,
and what a message leads to is for `sender` and `receiver`.
"""

from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Final

from xfer import frames
from xfer import validation as check
from xfer.errors import ProtocolError
from xfer.validation import MAX_INTEGER

VERSION: Final = 1
_DIGEST_BYTES: Final = {"md5": 16, "blake3": 32}


class Message:
    """What travels in a frame. `type` is the value of that key."""

    type: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """Sender, first: who I am and a fresh nonce (32 bytes, as hex)."""

    type: ClassVar = "hello"
    version: int
    key_id: str
    nonce: str

    def __post_init__(self) -> None:
        check.whole(self, "version", 0)
        check.text(self, "key_id", most=255)
        check.hexadecimal(self, "nonce", 32)


@dataclass(frozen=True, slots=True)
class Challenge(Message):
    """Receiver: a fresh nonce of its own (32 bytes, as hex)."""

    type: ClassVar = "challenge"
    version: int
    nonce: str

    def __post_init__(self) -> None:
        check.whole(self, "version", 0)
        check.hexadecimal(self, "nonce", 32)


@dataclass(frozen=True, slots=True)
class Proof(Message):
    """Sender: HMAC-SHA256 over the opening so far (32 bytes, as hex)."""

    type: ClassVar = "proof"
    mac: str

    def __post_init__(self) -> None:
        check.hexadecimal(self, "mac", 32)


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """Receiver: its own proof, and what it allows."""

    type: ClassVar = "welcome"
    mac: str
    digests: list[str]

    def __post_init__(self) -> None:
        check.hexadecimal(self, "mac", 32)
        if not isinstance(self.digests, list):
            raise check.fault(self, "digests")
        if not all(isinstance(digest, str) for digest in self.digests):
            raise check.fault(self, "digests")


@dataclass(frozen=True, slots=True)
class FileHeader(Message):
    """A file, or the part of one that starts at `offset`; `body` raw bytes follow.

    `file_size` (bytes) is None while the sender does not know it. Exactly one
    of `md5` and `blake3` is there: the digest, as hex, of the file's first
    `offset` + `body` bytes. `mode` are permission bits, `mtime_ns` nanoseconds
    since 1970.
    """

    type: ClassVar = "file"
    file_name: str
    file_size: int | None
    md5: str | None = None
    blake3: str | None = None
    offset: int = 0
    length: int | None = None
    mode: int | None = None
    mtime_ns: int | None = None

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.whole_or_none(self, "file_size", 0)
        check.whole(self, "offset", 0)
        check.whole_or_none(self, "length", 0)
        check.metadata(self)
        digests = [name for name in _DIGEST_BYTES if getattr(self, name) is not None]
        if len(digests) != 1:
            raise ProtocolError("a file message has one digest, md5 or blake3")
        check.hexadecimal(self, digests[0], _DIGEST_BYTES[digests[0]])
        if self.length is None and self.file_size is None:
            raise ProtocolError("a file message without file_size needs a length")
        end = MAX_INTEGER if self.file_size is None else self.file_size
        if self.body < 0 or self.offset + self.body > end:
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
    file_name: str
    mode: int | None = None
    mtime_ns: int | None = None

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.metadata(self)


@dataclass(frozen=True, slots=True)
class SymlinkHeader(Message):
    """A symbolic link and the text it holds."""

    type: ClassVar = "symlink"
    file_name: str
    target: str

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.text(self, "target")


@dataclass(frozen=True, slots=True)
class Receipt(Message):
    """Receiver: this is on stable storage under its name.

    `outcome` is "stored", "versioned" (other content had the name, and was kept
    as a version) or "unchanged" (the same content was there). Size (bytes) and
    digest are given for files only.
    """

    type: ClassVar = "receipt"
    file_name: str
    outcome: str
    file_size: int | None = None
    md5: str | None = None
    blake3: str | None = None

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.text(self, "outcome", most=64)
        check.whole_or_none(self, "file_size", 0)
        for algorithm, size in _DIGEST_BYTES.items():
            if getattr(self, algorithm) is not None:
                check.hexadecimal(self, algorithm, size)


@dataclass(frozen=True, slots=True)
class Refusal(Message):
    """Receiver: this one file is not taken; the session goes on."""

    type: ClassVar = "refusal"
    file_name: str
    code: str
    message: str
    retryable: bool

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.complaint(self)


@dataclass(frozen=True, slots=True)
class Error(Message):
    """Either side: the session ends here, for this reason."""

    type: ClassVar = "error"
    code: str
    message: str
    retryable: bool

    def __post_init__(self) -> None:
        check.complaint(self)


@dataclass(frozen=True, slots=True)
class Done(Message):
    """Sender: no more from me. Receiver: every receipt has gone out."""

    type: ClassVar = "done"


_CLASSES: Final[dict[str, type[Message]]] = {
    message.type: message
    for message in (
        Hello, Challenge, Proof, Welcome, FileHeader, DirectoryHeader, SymlinkHeader,
        Receipt, Refusal, Error, Done,
    )
}  # fmt: skip


_KEYS: Final[dict[type[Message], list[tuple[str, Any]]]] = {
    kind: [(field.name, field.default) for field in fields(kind)]  # type: ignore[arg-type]  # each is a dataclass
    for kind in _CLASSES.values()
}


def encode(message: Message) -> bytes:
    """The frame for `message`."""
    content: dict[str, object] = {"type": message.type}
    for name, default in _KEYS[type(message)]:
        value = getattr(message, name)
        if value != default or default is MISSING:
            content[name] = value
    return frames.encode(content)


def parse(payload: bytes) -> Message:
    """The message in a frame's payload.

    Unknown keys are ignored. Raises ProtocolError for an unknown type, a key
    that is missing and a value of the wrong kind.
    """
    content = frames.decode(payload)
    kind = content.get("type")
    message = _CLASSES.get(kind) if isinstance(kind, str) else None
    if message is None:
        raise ProtocolError("a message of unknown type")
    known = {name: content[name] for name, _ in _KEYS[message] if name in content}
    try:
        return message(**known)
    except TypeError as error:
        raise ProtocolError(f"a {message.type} message lacks a key") from error
