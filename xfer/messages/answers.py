"""What comes back: receipts, refusals, signs of life, and how a session ends."""

from dataclasses import dataclass
from typing import ClassVar

from xfer.messages import validation as check
from xfer.messages.base import Message


@dataclass(frozen=True, slots=True)
class Receipt(Message):
    """Receiver: this is on stable storage under its name.

    `outcome` is "stored", "versioned" (other content had the name, and was kept
    as a version) or "unchanged" (the same content was there). Size (bytes) and
    digest are given for files only. `durable` is false where the receiver was
    told not to flush.
    """

    type: ClassVar = "receipt"
    file_name: str
    outcome: str
    file_size: int | None = None
    md5: str | None = None
    blake3: str | None = None
    durable: bool = True

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.text(self, "outcome", most=64)
        check.truth(self, "durable")
        check.whole_or_none(self, "file_size", 0)
        check.digests(self)


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


@dataclass(frozen=True, slots=True)
class Working(Message):
    """Either side: still at it, `done` of `size` bytes; only so that nobody gives up."""

    type: ClassVar = "working"
    file_name: str
    done: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        check.text(self, "file_name")
        check.whole(self, "done", 0)
        check.whole(self, "size", 0)
