"""What comes back to a sender. A thread of its own receives it and checks it.

receiver ──▶ Plan ─────────────▶ Offers, where the sending thread waits for it
         ──▶ Receipt, Refusal ─▶ Outstanding ──▶ results
         ──▶ Working ──────────▶ progress
         ──▶ Done, Error ──────▶ the thread ends
"""

import threading

from xfer.errors import CorruptData, ProtocolError, XferError, from_peer
from xfer.sending.observer import ProgressSink
from xfer.sending.offers import Offers
from xfer.sending.outstanding import Outstanding
from xfer.wire.channel import Channel, expected
from xfer.wire.keepalive import StallLimit
from xfer.wire.messages import Done, Message, Plan, Receipt, Refusal, Working


class Replies:
    """Everything that the receiver of one session answers, until it is done."""

    def __init__(
        self,
        channel: Channel,
        offers: Offers,
        outstanding: Outstanding,
        stall_limit: StallLimit,
        progress: ProgressSink,
    ) -> None:
        self._channel = channel
        self._offers = offers
        self._outstanding = outstanding
        self._stall_limit = stall_limit
        self._progress = progress
        self._may_end = False
        """Set by the sending thread before it sends Done, read by the receiving thread after the
        receiver's Done, which answers that one: no lock is needed."""
        self.error: XferError | None = None
        """Why the session ended. Written by the receiving thread, once; the sending thread reads
        it between messages, so no lock is needed: one reference, and a message late is soon
        enough."""
        self._thread = threading.Thread(target=self._receive_all, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def expect_end(self) -> None:
        """Call this before Done is sent: only then may the receiver end the session."""
        self._may_end = True

    @property
    def has_all(self) -> bool:
        """Whether all was sent and answered: then the receiver's Done would say nothing new."""
        return self._may_end and not len(self._outstanding)

    def join(self) -> None:
        """Wait until nothing more comes back: all is answered, or `error` says why not."""
        self._thread.join()

    def _receive_all(self) -> None:
        try:
            while not isinstance(message := self._channel.receive(), Done):
                self._handle(message)
            if not self.has_all:
                raise CorruptData("the receiver ended without a receipt for everything")
        except XferError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 (raised again by the sending thread)
            self.error = XferError(f"internal error: {error!r}")
        if self.error:
            self._channel.abort()  # the sending thread may be waiting for room to send
        self._offers.end(self.error or ProtocolError("the session ended"))
        self._outstanding.end()

    def _handle(self, message: Message) -> None:
        """Handle one message. A receiver could send those that are no advance for ever."""
        is_advance = False
        match message:
            case Receipt():
                self._outstanding.confirm(message)
                is_advance = True
            case Plan():
                self._offers.add_plan(message)
                is_advance = bool(message.files)
            case Refusal():
                self._offers.offer_all()
                error = from_peer(message.code, message.message, retryable=message.retryable)
                is_advance = self._outstanding.fail(message.file_name, error)
            case Working():
                self._progress.waiting(message.file_name, message.done, message.size)
            case _:
                expected(message, Receipt)  # raises: it is the error it stands for, or a wrong one
        if is_advance:
            self._stall_limit.renew()
        else:
            self._stall_limit.check()
