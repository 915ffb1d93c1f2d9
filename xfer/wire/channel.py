"""A connected socket that speaks messages and moves bodies. Knows no disk.

One thread receives, any may send: a message is queued in one piece, and a
body right behind its header as long as one thread sends bodies.
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
from xfer.wire.messages import Error, Message, type_of
from xfer.wire.min_rate import MinimumRate
from xfer.wire.transport import IdleTask, Transport

SpecificMessage = TypeVar("SpecificMessage", bound=Message)

_INBOX_BYTES: Final = 256 * 1024
_UNAUTHENTICATED_INBOX_BYTES: Final = 8 * 1024
_OUTBOX_BYTES: Final = 64 * 1024
_DRAIN_SECONDS: Final = 5.0
_DRAIN_BYTES: Final = 256 * 1024 * 1024


class Channel:
    """Frames and bodies over a connected socket, which it owns from here on.

    Every wait is bounded by `timeout` (seconds), see `Transport`.
    """

    def __init__(self, connected: socket.socket, timeout: float) -> None:
        self._transport = Transport(connected, timeout)
        self._sending = threading.RLock()
        self._inbox = memoryview(bytearray(_UNAUTHENTICATED_INBOX_BYTES))
        self._start = self._end = 0
        self._outbox = bytearray()
        self.most_to_drain = _DRAIN_BYTES
        self.peer_flushes = True
        """Whether the other side, if it receives, has what it stores on stable storage."""
        self._min_rate: MinimumRate | None = None

    def start_tls(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        """Do the handshake. ProtocolError when the other side does not speak TLS 1.3."""
        self._transport.start_tls(context, server_side=server_side)

    def peer_certificate(self) -> bytes:
        """The other side's certificate in DER, empty when it showed none."""
        return self._transport.peer_certificate()

    @property
    def is_encrypted(self) -> bool:
        return self._transport.is_encrypted

    def set_deadline(self, seconds: float | None) -> None:
        """Set the absolute deadline for all that follows; None lifts it."""
        self._transport.set_deadline(seconds)

    def mark_authenticated(self, min_rate: int = 0) -> None:
        """The other side has proved itself: from here on it is worth more memory.

        Bodies must flow at `min_rate` bytes a second, unless it is 0.
        """
        self._transport.mark_authenticated()
        self._transport.min_rate = self._min_rate = MinimumRate(min_rate) if min_rate else None
        self.most_to_drain = _DRAIN_BYTES
        inbox = memoryview(bytearray(_INBOX_BYTES))
        rest = self._end - self._start
        inbox[:rest] = self._inbox[self._start : self._end]
        self._inbox, self._start, self._end = inbox, 0, rest

    def limit(self, incoming: Bandwidth | None = None, outgoing: Bandwidth | None = None) -> None:
        """From here on, move no more bytes a second than that, TLS included."""
        self._transport.incoming_limit = incoming
        self._transport.outgoing_limit = outgoing

    def set_idle_task(self, idle_task: IdleTask | None) -> None:
        """Have this done while more is waited for."""
        self._transport.idle_task = idle_task

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
        """Queue raw bytes; small ones wait for company, large ones go out at once."""
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

        Raises Interrupted once `stop` is set.
        """
        if stop and stop.is_set:
            raise Interrupted
        if self._start == self._end:
            self._start, self._end = 0, self._transport.receive_now(self._inbox)
        return self._start < self._end or self._transport.wait_readable(stop, seconds)

    def peek(self) -> int:
        """The first byte that the peer sent, which stays to be received."""
        return self._transport.peek()

    def receive_payload(self) -> bytes:
        """The JSON bytes of the next frame, exactly as they travelled."""
        return frames.read_payload(self.read)

    def receive(self) -> Message:
        """The next message, whichever it is."""
        return messages.parse(self.receive_payload())

    def expect(self, kind: type[SpecificMessage]) -> SpecificMessage:
        """The next message, which must be of this kind."""
        return expected(self.receive(), kind)

    def read(self, length: int) -> bytes:
        """Exactly `length` bytes."""
        return self.view(length).tobytes()

    def view(self, length: int) -> memoryview:
        """Exactly `length` bytes, which stay what they are until more is received."""
        end = self._start + length
        if end <= self._end:
            view, self._start = self._inbox[self._start : end], end
        else:
            view = memoryview(bytearray(length))
            self.read_into(view)
        return view

    def read_into(self, view: memoryview) -> None:
        """Fill `view`, past the inbox where what is missing is larger than it."""
        filled = 0
        while filled < len(view):
            if self._start < self._end:
                size = min(len(view) - filled, self._end - self._start)
                view[filled : filled + size] = self._inbox[self._start : self._start + size]
                self._start += size
            elif len(view) - filled < len(self._inbox):
                self._fill()
                continue
            else:
                size = self._transport.receive_into(view[filled:])
            filled += size

    def body(self, length: int) -> "Body":
        """The raw bytes that follow the header just received."""
        return (
            MinimumRateBody(self, length, self._min_rate) if self._min_rate else Body(self, length)
        )

    # Ending

    def end_with(self, error: XferError) -> None:
        """Say why the session ends, and see to it that the peer can read it."""
        self.give_up(error)
        self.drain()

    def give_up(self, error: XferError) -> None:
        """Say why the session ends and send nothing more; what comes back can be received."""
        with contextlib.suppress(XferError):
            self.set_deadline(_DRAIN_SECONDS)
            if not error.is_from_peer:
                self.send(Error(error.code, error.message, error.retryable))
            self.flush()
        self._transport.shut_down(socket.SHUT_WR)

    def drain(self) -> None:
        """Send nothing more, and forget what still comes, for a bounded time and amount.

        A socket that is closed over unread data is reset, and the reset takes
        the last words with it.
        """
        self._transport.end_tls()
        self._transport.shut_down(socket.SHUT_WR)
        with contextlib.suppress(XferError):
            self.set_deadline(_DRAIN_SECONDS)
            drained = 0
            while drained < self.most_to_drain:
                drained += self._transport.receive_into(self._inbox)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        """Make every thread that waits on this channel fail now."""
        self._transport.shut_down(socket.SHUT_RDWR)

    def _fill(self) -> None:
        self._start = self._end = 0
        self._end = self._transport.receive_into(self._inbox)


class Body:
    """Raw bytes of a known length, to be read to the end or drained."""

    def __init__(self, channel: Channel, length: int) -> None:
        self.remaining = length
        self._channel = channel

    def view(self) -> memoryview:
        """All that remains, which stays what it is until more is received."""
        content, self.remaining = self._channel.view(self.remaining), 0
        return content

    def read_into(self, view: memoryview) -> None:
        """Fill `view`, which is no longer than what remains."""
        self._channel.read_into(view)
        self.remaining -= len(view)

    def drain(self, scratch: memoryview) -> None:
        """Read what remains and forget it."""
        while self.remaining:
            self.read_into(scratch[: self.remaining])


class MinimumRateBody(Body):
    """A body that must not come too slowly."""

    def __init__(self, channel: Channel, length: int, min_rate: MinimumRate) -> None:
        super().__init__(channel, length)
        self._min_rate = min_rate

    def view(self) -> memoryview:
        """All that remains."""
        content = memoryview(bytearray(self.remaining))
        self.read_into(content)
        return content

    def read_into(self, view: memoryview) -> None:
        """Raises PeerTimeout, too, see `MinimumRate`."""
        self._min_rate.read_into(self._channel.read_into, view)
        self.remaining -= len(view)


def expected(message: Message, kind: type[SpecificMessage]) -> SpecificMessage:
    """`message` if it is of this kind; the error it stands for, or ProtocolError."""
    if isinstance(message, kind):
        return message
    if isinstance(message, Error):
        raise from_peer(message.code, message.message, retryable=message.retryable)
    raise ProtocolError(f"a {message.type} message where {type_of(kind)} was expected")
