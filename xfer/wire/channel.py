"""A connected socket that speaks messages and moves bodies. Knows no disk.

    send, send_body -> _outbox -flush-> Transport -> socket
    socket -> Transport -> Inbox -> receive, body

One thread receives. Any thread may send: a message is queued in one piece, and
a body right behind its header as long as one thread sends bodies.
"""

import contextlib
import socket
import ssl
import threading
from typing import Final, TypeVar

from xfer.errors import ProtocolError, XferError, from_peer
from xfer.system.stop import Interrupted, StopSignal
from xfer.wire import frames, messages
from xfer.wire.bandwidth import Bandwidth
from xfer.wire.cancel import CancelToken
from xfer.wire.inbox import Body, Inbox, MinimumRateBody
from xfer.wire.messages import Error, Message, type_of
from xfer.wire.min_rate import MinimumRate
from xfer.wire.transport import Transport
from xfer.wire.waiter import IdleTask, Waiter

SpecificMessage = TypeVar("SpecificMessage", bound=Message)

_OUTBOX_BYTES: Final = 64 * 1024
_DRAIN_SECONDS: Final = 5.0
_DRAIN_BYTES: Final = 256 * 1024 * 1024
_UNAUTHENTICATED_DRAIN_BYTES: Final = 1024 * 1024


class Channel:
    """Frames and bodies over a connected socket, which it owns from here on.

    Every wait is bounded by `timeout` (seconds) and ended by `cancel`, see `Waiter`.
    What sends or receives raises ConnectionLost, PeerTimeout, ProtocolError or
    Cancelled; after one of these the connection can only be ended.
    """

    def __init__(
        self, connected: socket.socket, timeout: float, cancel: CancelToken | None = None
    ) -> None:
        self._waiter = Waiter(connected, timeout, cancel)
        self._transport = Transport(connected, self._waiter)
        self._inbox = Inbox(self._transport)  # the receiving thread's
        # Held while something is queued or sent, so that frames stay whole and in
        # order. Reentrant: `send` holds it around `send_body`, which may `flush`.
        self._sending = threading.RLock()
        self._outbox = bytearray()  # guarded by `_sending`
        # `mark_authenticated` sets these, before there is a second thread.
        self._drain_bytes = _UNAUTHENTICATED_DRAIN_BYTES
        self._min_rate: MinimumRate | None = None
        self.peer_flushes = True
        """Whether the other side, if it receives, has what it stores on stable storage."""

    def start_tls(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        """Do the handshake. ProtocolError when the other side does not speak TLS 1.3."""
        self._transport.start_tls(context, server_side=server_side)

    def peer_certificate(self) -> bytes:
        """The other side's certificate in DER, empty when it showed none."""
        return self._transport.peer_certificate()

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent now is; not yet during the handshake."""
        return self._transport.is_encrypted

    @property
    def silence(self) -> float:
        """Seconds since anything moved, either way; 0 while bytes wait to be received.

        Any thread may ask.
        """
        return self._waiter.silence()

    def set_deadline(self, seconds: float | None) -> None:
        """Set the absolute deadline for all that follows, seconds from now; None lifts it."""
        self._waiter.set_deadline(seconds)

    def mark_authenticated(
        self,
        *,
        min_rate: int = 0,
        incoming: Bandwidth | None = None,
        outgoing: Bandwidth | None = None,
        peer_flushes: bool = True,
    ) -> None:
        """Enlarge buffers: the other side has proved itself. From here on these limits hold.

        Bodies have to arrive at `min_rate` bytes a second, unless it is 0.
        `incoming` and `outgoing` limit all that is moved, TLS included.
        """
        self._transport.mark_authenticated(incoming, outgoing)
        self._inbox.enlarge()
        self._drain_bytes = _DRAIN_BYTES
        self._min_rate = MinimumRate(min_rate) if min_rate else None
        self._waiter.set_min_rate(self._min_rate)
        self.peer_flushes = peer_flushes

    def set_idle_task(self, idle_task: IdleTask | None) -> None:
        """Have this run while nothing can be received."""
        self._waiter.set_idle_task(idle_task)

    # Sending

    def send(self, message: Message, body: bytes | memoryview = b"") -> bytes:
        """Queue `message` and its body; return its payload as it will travel. See `flush`."""
        frame = messages.encode(message)
        with self._sending:
            self.send_body(frame)
            if body:
                self.send_body(body)
        return frame[4:]

    def send_body(self, data: bytes | memoryview) -> None:
        """Queue raw bytes; small ones wait to be sent with others, large ones go out at once."""
        with self._sending:
            if len(self._outbox) + len(data) <= _OUTBOX_BYTES:
                self._outbox += data
                return
            self.flush()
            if len(data) > _OUTBOX_BYTES // 2:
                self._transport.send_all(data)
            else:
                self._outbox += data

    def flush(self) -> None:
        """Hand everything queued to the system."""
        with self._sending:
            if self._outbox:
                queued, self._outbox = self._outbox, bytearray()
                self._transport.send_all(queued)

    # Receiving

    def wait_for_message(self, stop: StopSignal | None, seconds: float) -> bool:
        """Wait until something is there to receive; False if that takes longer.

        Raises Interrupted once `stop` is set, also if something is there.
        """
        if stop and stop.is_set:
            raise Interrupted
        return self._inbox.fill_now() or self._transport.wait_readable(stop, seconds)

    def peek(self) -> int:
        """The first byte that the peer sent, which stays to be received."""
        return self._transport.peek()

    def receive_payload(self) -> bytes:
        """The JSON bytes of the next frame, exactly as they travelled."""
        return frames.read_payload(self._inbox.read)

    def receive(self) -> Message:
        """The next message, of any kind."""
        return messages.parse(frames.read_payload(self._inbox.read))

    def expect(self, kind: type[SpecificMessage]) -> SpecificMessage:
        """The next message, which must be of this kind, see `expected`."""
        return expected(self.receive(), kind)

    def read(self, length: int) -> bytes:
        """Exactly `length` raw bytes."""
        return self._inbox.read(length)

    def body(self, length: int) -> Body:
        """The raw bytes that follow the header just received."""
        if self._min_rate:
            return MinimumRateBody(self._inbox, length, self._min_rate)
        return Body(self._inbox, length)

    # Ending

    def end_with(self, error: XferError) -> None:
        """Tell the peer why the session ends, and see to it that it can read that."""
        self.give_up(error)
        self.drain()

    def give_up(self, error: XferError) -> None:
        """Tell the peer why the session ends and send nothing more.

        What the peer sends can still be received. An error that came from the
        peer is not sent back to it.
        """
        with contextlib.suppress(XferError):
            self.set_deadline(_DRAIN_SECONDS)
            if not error.is_from_peer:
                self.send(Error(error.code, error.message, error.retryable))
            self.flush()
        self._transport.shut_down(socket.SHUT_WR)

    def drain(self) -> None:
        """Send nothing more, and forget what still comes, for a bounded time and amount.

        Closing a socket that has unread data resets the connection, and then the
        peer may not get to read what was sent last.
        """
        self._transport.end_tls()
        self._transport.shut_down(socket.SHUT_WR)
        with contextlib.suppress(XferError):
            self.set_deadline(_DRAIN_SECONDS)
            self._inbox.drain(self._drain_bytes)

    def close(self) -> None:
        """Close the connection. No other thread uses it any more."""
        self._transport.close()

    def abort(self) -> None:
        """Make every thread that waits on this channel fail now. Any thread may."""
        self._transport.shut_down(socket.SHUT_RDWR)


def expected(message: Message, kind: type[SpecificMessage]) -> SpecificMessage:
    """`message` if it is of this kind; the error it stands for, or ProtocolError."""
    if isinstance(message, kind):
        return message
    if isinstance(message, Error):
        raise from_peer(message.code, message.message, retryable=message.retryable)
    raise ProtocolError(f"a {message.type} message where {type_of(kind)} was expected")
