"""What comes back: receipts, refusals, signs of life, and how a session ends."""

from dataclasses import dataclass, field
from typing import ClassVar, Final

from xfer.messages.base import Message
from xfer.messages.validation import BLAKE3, MD5, SIZE, TEXT, TRUTH, WORD, one_of

OUTCOMES: Final = ("stored", "versioned", "unchanged")


@dataclass(frozen=True, slots=True)
class Receipt(Message):
    """Receiver: this is on stable storage under its name.

    `outcome` is "stored", "versioned" (other content had the name, and was kept
    as a version) or "unchanged" (the same content was there). Size (bytes) and
    digest are given for files only. `durable` is false where the receiver was
    told not to flush.
    """

    type: ClassVar = "receipt"
    file_name: str = field(metadata=TEXT)
    outcome: str = field(metadata=one_of(OUTCOMES))
    file_size: int | None = field(default=None, metadata=SIZE)
    md5: str | None = field(default=None, metadata=MD5)
    blake3: str | None = field(default=None, metadata=BLAKE3)
    durable: bool = field(default=True, metadata=TRUTH)


@dataclass(frozen=True, slots=True)
class Refusal(Message):
    """Receiver: this one file is not taken; the session goes on."""

    type: ClassVar = "refusal"
    file_name: str = field(metadata=TEXT)
    code: str = field(metadata=WORD)
    message: str = field(metadata=TEXT)
    retryable: bool = field(metadata=TRUTH)


@dataclass(frozen=True, slots=True)
class Error(Message):
    """Either side: the session ends here, for this reason."""

    type: ClassVar = "error"
    code: str = field(metadata=WORD)
    message: str = field(metadata=TEXT)
    retryable: bool = field(metadata=TRUTH)


@dataclass(frozen=True, slots=True)
class Done(Message):
    """Sender: no more from me. Receiver: every receipt has gone out."""

    type: ClassVar = "done"


@dataclass(frozen=True, slots=True)
class Working(Message):
    """Either side: still at it, `done` of `size` bytes; only so that nobody gives up."""

    type: ClassVar = "working"
    file_name: str = field(metadata=TEXT)
    done: int = field(default=0, metadata=SIZE)
    size: int = field(default=0, metadata=SIZE)
