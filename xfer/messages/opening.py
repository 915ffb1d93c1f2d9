"""The four messages with which both sides prove themselves."""

from dataclasses import dataclass, field
from typing import ClassVar, Final

from xfer.messages.base import USABLE, Message
from xfer.messages.validation import SHA256, SIZE, TRUTH, Check, text

VERSION: Final = 1
_KEY_ID: Final = text(255)
_WORDS: Final[Check] = {
    USABLE: lambda value: isinstance(value, list) and all(isinstance(word, str) for word in value)
}


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """Sender, first: who I am and a fresh nonce (32 bytes, as hex)."""

    type: ClassVar = "hello"
    version: int = field(metadata=SIZE)
    key_id: str = field(metadata=_KEY_ID)
    nonce: str = field(metadata=SHA256)


@dataclass(frozen=True, slots=True)
class Challenge(Message):
    """Receiver: a fresh nonce of its own (32 bytes, as hex)."""

    type: ClassVar = "challenge"
    version: int = field(metadata=SIZE)
    nonce: str = field(metadata=SHA256)


@dataclass(frozen=True, slots=True)
class Proof(Message):
    """Sender: HMAC-SHA256 over the opening so far (32 bytes, as hex)."""

    type: ClassVar = "proof"
    mac: str = field(metadata=SHA256)


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """Receiver: its own proof, and what it allows; sizes in bytes."""

    type: ClassVar = "welcome"
    mac: str = field(metadata=SHA256)
    digests: list[str] = field(metadata=_WORDS)
    durable: bool = field(default=True, metadata=TRUTH)
    max_file_size: int | None = field(default=None, metadata=SIZE)
