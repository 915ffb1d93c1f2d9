"""The four messages with which both sides prove themselves."""

from dataclasses import dataclass
from typing import ClassVar, Final

from xfer.messages import validation as check
from xfer.messages.base import Message

VERSION: Final = 1


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
    """Receiver: its own proof, and what it allows; sizes in bytes."""

    type: ClassVar = "welcome"
    mac: str
    digests: list[str]
    durable: bool = True
    max_file_size: int | None = None

    def __post_init__(self) -> None:
        check.hexadecimal(self, "mac", 32)
        check.truth(self, "durable")
        check.whole_or_none(self, "max_file_size", 0)
        if not isinstance(self.digests, list):
            raise check.fault(self, "digests")
        if not all(isinstance(digest, str) for digest in self.digests):
            raise check.fault(self, "digests")
