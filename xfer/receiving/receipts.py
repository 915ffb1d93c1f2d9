"""Answers each item that a sender sent, with a receipt or a refusal, and logs it."""

import logging
import time
from typing import Final, Literal

from xfer import logs, names
from xfer.errors import Refused
from xfer.logs import Line, Peer
from xfer.names import printable
from xfer.outcomes import Outcome
from xfer.receiving.commit_queue import ArrivedItem
from xfer.receiving.committer import CommittedBatch
from xfer.receiving.observer import Received, ReceivingObserver
from xfer.storage.contract import Item, NewDirectory, NewFile, NewSymlink
from xfer.wire.channel import Channel
from xfer.wire.messages import FileHeader, Receipt, Refusal

log = logging.getLogger("xfer.receiver")

_MAX_REMEMBERED: Final = 1024
"""Refused names. Beyond that all are forgotten, to bound the memory: a later part of such a
file is refused once more, as one that continues nothing."""
_KINDS: Final[dict[type[Item], Literal["file", "directory", "symlink"]]] = {
    NewFile: "file",
    NewDirectory: "directory",
    NewSymlink: "symlink",
}
ECHOED_NAME: Final = names.MAX_NAME
"""Characters of a name that an answer repeats. What is longer is refused anyway, and might not
fit into a frame."""


class ReceiptSender:
    """Answers the items of one session. Used by its thread only.

    `peer` is whom the log names. Receipts say whether the store is `durable`.
    Every method that sends raises ConnectionLost when the sender is gone.
    `observer` is told of each receipt, and of what is stored when the sender is
    gone, too, and of each refusal.
    """

    def __init__(
        self,
        channel: Channel,
        peer: Peer,
        *,
        durable: bool,
        observer: ReceivingObserver | None = None,
    ) -> None:
        self._observer = observer
        self._channel = channel
        self._peer = peer
        self._peer_words = str(peer)
        self._durable = durable
        self._has_warned = False
        self._refused: set[bytes] = set()

    def answer(self, committed: CommittedBatch) -> None:
        """Send the receipt or the refusal of each item of a batch.

        Receipts are logged before they are sent: the sender may be gone.
        """
        stored: list[tuple[ArrivedItem, Outcome]] = []
        for arrived, outcome in committed:
            if isinstance(outcome, Refused):
                self._send_refusal(arrived.item.name, outcome)
            else:
                stored.append((arrived, outcome))
                if not self._has_warned and (previous := _previous_host(arrived)):
                    self._warn_of_other(previous)
        if log.isEnabledFor(logging.INFO):
            lines = (self._receipt_line(*one) for one in stored)
            logs.info_each(log, "receipt", self._peer, lines)
        try:
            for arrived, outcome in stored:
                size = arrived.size if arrived.digest else None
                name = arrived.item.name
                receipt = Receipt(
                    name,
                    outcome,
                    size,
                    durable=self._durable,
                    previous_host=_previous_host(arrived),
                    **arrived.digest,
                )
                self._channel.send(receipt)
            self._channel.flush()
        finally:
            if self._observer:
                for arrived, outcome in stored:
                    self._observer.received(self._described(arrived, outcome))

    def _described(self, arrived: ArrivedItem, outcome: Outcome) -> Received:
        item, peer = arrived.item, self._peer
        algorithm, digest = next(iter(arrived.digest.items()), ("", ""))
        return Received(
            item.name,
            outcome,
            arrived.size,
            algorithm,
            digest,
            peer.address,
            peer.key_id,
            _KINDS[type(item)],
        )

    def refuse(self, name: str, error: Refused) -> None:
        """Refuse an item before it is committed; more parts of it may be on their way."""
        if len(self._refused) >= _MAX_REMEMBERED:
            self._refused.clear()
        self._refused.add(_fingerprint(name))
        self._send_refusal(name, error)
        self._channel.flush()

    def has_refused(self, header: FileHeader) -> bool:
        """True for a later part of a refused file, sent before the sender heard of the refusal.

        Anything else of that name is a new try, and the refusal is forgotten.
        """
        if not self._refused:
            return False
        if header.offset and _fingerprint(header.file_name) in self._refused:
            return True
        self.forget_refusal(header.file_name)
        return False

    def forget_refusal(self, name: str) -> None:
        """Answer what comes of this name from now on, as after an offer of it."""
        if self._refused:
            self._refused.discard(_fingerprint(name))

    def tell_difference(self, name: str) -> None:
        """Log that what is stored is not what the sender has, although size and time agree."""
        log.warning(
            "%s %s: differs from what is sent, although size and time agree",
            self._peer, printable(name),
            extra=logs.about("differs", self._peer, file_name=name),
        )  # fmt: skip

    def _warn_of_other(self, previous: str) -> None:
        """Once in a session: each file's own line says it, too."""
        self._has_warned = True
        peer, host = self._peer, self._peer.host
        log.warning(
            "%s: %s writes over what %s has written: a key for each, with a directory of its own,"
            " keeps them apart", peer, printable(host), printable(previous),
            extra=logs.about("other_host", peer, host=host, previous_host=previous),
        )  # fmt: skip

    def _receipt_line(self, arrived: ArrivedItem, outcome: Outcome) -> Line:
        name, size = arrived.item.name, arrived.size
        seconds = round(time.monotonic() - arrived.began, 3)
        said = f"{self._peer_words} {printable(name)}: {size} bytes, {seconds:.3f} s, {outcome}"
        fields = {"file_name": name, "bytes": size, "seconds": seconds, "outcome": outcome}
        if previous := _previous_host(arrived):
            said += f", last written by {printable(previous)}, now by {printable(self._peer.host)}"
            fields |= {"previous_host": previous, "host": self._peer.host}
        return Line(said, fields)

    def _send_refusal(self, name: str, error: Refused) -> None:
        because = f" ({error.__cause__})" if error.__cause__ else ""
        log.warning(
            "%s %s: refused, %s%s", self._peer, printable(name), error.message, because,
            extra=logs.about("refusal", self._peer, file_name=name, code=error.code),
        )  # fmt: skip
        self._channel.send(Refusal(name[:ECHOED_NAME], error.code, error.message, error.retryable))
        if self._observer:
            self._observer.refused(name, error)


def _previous_host(arrived: ArrivedItem) -> str:
    """The other machine that wrote what an item has replaced, if one did."""
    return arrived.item.partial.previous_host if isinstance(arrived.item, NewFile) else ""


def _fingerprint(name: str) -> bytes:
    """Of any text: what was refused need not be a name."""
    return names.fingerprint(name.encode("utf-8", "surrogatepass"))
