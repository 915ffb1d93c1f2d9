"""What a receiving session tells whoever runs it, beside its answers to the sender.

Planner ─────── unchanged, resumed ──┐
BodyReceiver ── arrived ─────────────┼──▶ ReceivingObserver
ReceiptSender ─ received, refused ───┤
Session ─────── require, not_sent ───┘
"""

import logging
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from xfer import logs
from xfer.errors import XferError, from_peer
from xfer.logs import Peer
from xfer.names import printable
from xfer.outcomes import Outcome
from xfer.wire.messages import (
    DirectoryHeader,
    FileHeader,
    ListedSnapshot,
    Listing,
    Message,
    Offer,
    Refusal,
    SymlinkHeader,
)

log = logging.getLogger("xfer.receiver")


class Received(Struct, frozen=True):
    """One file, directory or link that a receiver has stored, or had already, after its receipt.

    `size` in bytes, and `digest` as hex by its algorithm, for files. `outcome` is
    that of the receipt, `peer` the sender's HOST:PORT, and `key_id` its key.
    """

    name: str
    outcome: Outcome
    size: int
    algorithm: str
    digest: str
    peer: str
    key_id: str
    kind: Literal["file", "directory", "symlink"] = "file"


OnReceipt = Callable[[Received], object]


class ReceivingObserver:
    """Receives what happens in one session, in the session's thread. Does nothing by itself."""

    def require(self, name: str) -> None:
        """The sender has said this name. Raise what is to end the session if it must not."""

    def unchanged(self, name: str, size: int, algorithm: str, digest: str) -> None:
        """An offered file is here, and not sent. No `digest` if only size and time agree."""

    def wanted(self, name: str, size: int) -> None:
        """A file that was offered is not here, or not all of it."""

    def resumed(self, name: str, offset: int) -> None:
        """So many bytes of a file that is wanted are here already."""

    def arrived(self, size: int) -> None:
        """So many more bytes of content have come."""

    def received(self, received: Received) -> None:
        """It is stored, or was here; the receipt has gone out, unless the sender is gone."""

    def refused(self, name: str, error: XferError) -> None:
        """It was refused by this side."""

    def chosen(self, snapshots: Sequence[ListedSnapshot]) -> None:
        """What comes is as these snapshots have it."""

    def not_sent(self, name: str, error: XferError) -> None:
        """This side asked for it, and the sender cannot send it."""


class Callback(ReceivingObserver):
    """Calls `on_receipt` for each receipt. What it raises is logged, and ends nothing."""

    def __init__(self, on_receipt: OnReceipt, peer: Peer) -> None:
        self._on_receipt = on_receipt
        self._peer = peer

    def received(self, received: Received) -> None:
        try:
            self._on_receipt(received)
        except Exception:
            log.exception(
                "%s %s: on_receipt failed", self._peer, printable(received.name),
                extra=logs.about("callback_failed", self._peer, file_name=received.name),
            )  # fmt: skip


def tell_answer(observer: ReceivingObserver, message: Refusal | Listing) -> None:
    """What the side says that was asked to send: of which snapshots, and what it cannot send."""
    if isinstance(message, Listing):
        observer.chosen(message.snapshots)
    else:
        error = from_peer(message.code, message.message, retryable=message.retryable)
        observer.not_sent(message.file_name, error)


def tell_names(observer: ReceivingObserver, message: Message) -> None:
    """Every name that a message has. What the observer raises is to end the session."""
    match message:
        case Offer():
            for file in message.files:
                observer.require(file.file_name)
        case FileHeader() | DirectoryHeader() | SymlinkHeader() | Refusal():
            observer.require(message.file_name)
