"""A connected socket that speaks messages and moves bodies. Knows no disk.

One thread receives, any may send: a message is queued in one piece, and a body
right behind its header as long as one thread sends bodies. The socket does not block:
whoever can't go on waits in `poll`, outside the lock that every call into the
socket takes, because OpenSSL does not allow two threads in one connection at
once. This is also the one place where the socket's errors become our own.
"""

import contextlib
import math
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from xfer import frames, messages
from xfer.errors import ConnectionLost, PeerTimeout, ProtocolError, XferError, from_peer
from xfer.messages import Error, Message

Result = TypeVar("Result")
SpecificMessage = TypeVar("SpecificMessage", bound=Message)

_INBOX_BYTES: Final = 256 * 1024
_OUTBOX_BYTES: Final = 64 * 1024
_LONGEST_POLL: Final = 3600.0
_DRAIN_SECONDS: Final = 5.0
_DRAIN_BYTES: Final = 256 * 1024 * 1024


class Interrupted(Exception):
    """The stop signal was set while `wait_for_message` waited, or before."""


class StopSignal:
    """Set once, from any thread; whoever polls can wait for it beside a socket."""

    def __init__(self) -> None:
        self.is_set = False
        self.descriptor, self._held_open = os.pipe()

    def set(self) -> None:
        """Wake everybody: the end of the pipe is something to read."""
        if not self.is_set:
            self.is_set = True
            os.close(self._held_open)

    def close(self) -> None:
        self.set()
        os.close(self.descriptor)


class Channel:
    """Frames and bodies over a connected socket, which it owns from here on.

    A wait ends with PeerTimeout when nothing has moved in either direction for
    `timeout` seconds, or at the absolute deadline set with `must_end_within`.
    """

    def __init__(self, connected: socket.socket, timeout: float) -> None:
        connected.setblocking(False)
        with contextlib.suppress(OSError):  # a socket pair has no such option
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self._socket = connected
        self._lock = threading.Lock()
        self._sending = threading.RLock()
        self._deadline: float | None = None
        self._moved_at = time.monotonic()
        self._silent_since: float | None = None
        self._inbox = memoryview(bytearray(_INBOX_BYTES))
        self._start = self._end = 0
        self._outbox = bytearray()

    def start_tls(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        """Do the handshake. ProtocolError when the other side does not speak TLS 1.3."""
        self._retry(self._socket.getpeername, 0)  # the wrapper would leak a socket that is reset
        wrap = partial(context.wrap_socket, do_handshake_on_connect=False)
        self._socket = self._retry(lambda: wrap(self._socket, server_side=server_side), 0)
        self._retry(self._socket.do_handshake, select.POLLIN)

    def peer_certificate(self) -> bytes:
        """The other side's certificate in DER, empty when it showed none."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return b""
        return self._socket.getpeercert(binary_form=True) or b""

    def must_end_within(self, seconds: float | None) -> None:
        """Set the absolute deadline for all that follows; None lifts it."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    # Sending

    def send(self, message: Message) -> bytes:
        """Queue `message`; return its payload as it will travel. See `flush`."""
        frame = messages.encode(message)
        self.send_body(frame)
        return frame[4:]

    def send_body(self, data: bytes | memoryview) -> None:
        """Queue raw bytes; small ones wait for company, large ones go out at once."""
        with self._sending:
            if len(self._outbox) + len(data) <= _OUTBOX_BYTES:
                self._outbox += data
                return
            self.flush()
            if len(data) > _OUTBOX_BYTES // 2:
                self._send_all(data)
            else:
                self._outbox += data

    def flush(self) -> None:
        """Hand everything queued to the system."""
        with self._sending:
            if self._outbox:
                queued, self._outbox = self._outbox, bytearray()
                self._send_all(queued)

    # Receiving

    def wait_for_message(self, stop: StopSignal | None, seconds: float) -> bool:
        """Wait until something is there to receive; False if that takes longer.

        Raises Interrupted once `stop` is set.
        """
        if stop and stop.is_set:
            raise Interrupted
        if self._has_received():
            return True
        wake = stop.descriptor if stop else None
        # Asked again and again, it is still one and the same silence.
        self._silent_since = self._silent_since or time.monotonic()
        ready = self._wait(select.POLLIN, wake, seconds, self._silent_since)
        if wake in ready:
            raise Interrupted
        if ready:
            self._silent_since = None
        return bool(ready)

    def _has_received(self) -> bool:
        if self._start < self._end:
            return True
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def peek(self) -> int:
        """The first byte that the peer sent, which stays to be received."""
        first = self._retry(lambda: self._socket.recv(1, socket.MSG_PEEK), select.POLLIN)
        if not first:
            raise ConnectionLost("the other side closed the connection")
        return first[0]

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
        data = bytearray(length)
        self.read_into(memoryview(data))
        return bytes(data)

    def read_into(self, view: memoryview) -> None:
        """Fill `view`, past the inbox where what is missing is larger than it."""
        filled = 0
        while filled < len(view):
            if self._start < self._end:
                size = min(len(view) - filled, self._end - self._start)
                view[filled : filled + size] = self._inbox[self._start : self._start + size]
                self._start += size
            elif len(view) - filled < _INBOX_BYTES:
                self._fill()
                continue
            else:
                size = self._receive_into(view[filled:])
            filled += size

    def body(self, length: int) -> "Body":
        """The raw bytes that follow the header just received."""
        return Body(self, length)

    # Ending

    def end_with(self, error: XferError) -> None:
        """Say why the session ends, and see to it that the peer can read it."""
        self.give_up(error)
        self.drain()

    def give_up(self, error: XferError) -> None:
        """Say why the session ends and send nothing more; what comes back can be received."""
        with contextlib.suppress(XferError):
            self.must_end_within(_DRAIN_SECONDS)
            if not error.is_from_peer:
                self.send(Error(error.code, error.message, error.retryable))
            self.flush()
        self._shut_down(socket.SHUT_WR)

    def drain(self) -> None:
        """Send nothing more, and forget what still comes, for a bounded time and amount.

        A socket that is closed over unread data is reset, and the reset takes
        the last words with it.
        """
        self._end_tls()
        self._shut_down(socket.SHUT_WR)
        with contextlib.suppress(XferError):
            self.must_end_within(_DRAIN_SECONDS)
            drained = 0
            while drained < _DRAIN_BYTES:
                drained += self._receive_into(self._inbox)

    def close(self) -> None:
        self._end_tls()
        self._socket.close()

    def abort(self) -> None:
        """Make every thread that waits on this channel fail now."""
        self._shut_down(socket.SHUT_RDWR)

    # The socket

    def _end_tls(self) -> None:
        """Send close_notify. What still comes is read as it is from here on, not decrypted."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if isinstance(self._socket, ssl.SSLSocket):
                with contextlib.suppress(OSError, ValueError):
                    self._socket.unwrap()
                self._socket = socket.socket(fileno=self._socket.detach())
                self._socket.setblocking(False)

    def _shut_down(self, how: int) -> None:
        """Past the TLS layer, which would forget that there is one."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)

    def _fill(self) -> None:
        self._start = self._end = 0
        self._end = self._receive_into(self._inbox)

    def _receive_into(self, view: memoryview) -> int:
        size = self._retry(partial(self._socket.recv_into, view), select.POLLIN)
        if not size:
            raise ConnectionLost("the other side closed the connection")
        return size

    def _send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._retry(partial(self._socket.send, rest), select.POLLOUT) :]

    def _retry(self, attempt: Callable[[], Result], events: int) -> Result:
        """`attempt` until it neither fails nor would block."""
        while True:
            try:
                with self._lock:
                    result = attempt()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as blocked:
                self._wait(_awaited(blocked, events))
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
                raise ConnectionLost("the other side closed the connection") from error
            except ssl.SSLError as error:
                raise ProtocolError(f"TLS failed: {error.reason or error}") from error
            except OSError as error:
                raise ConnectionLost(f"the connection was lost: {error.strerror}") from error
            else:
                self._moved_at = time.monotonic()
                return result

    def _wait(
        self,
        events: int,
        wake: int | None = None,
        seconds: float = math.inf,
        since: float | None = None,
    ) -> list[int]:
        """The descriptors that are ready; none after `seconds`.

        PeerTimeout when the silence, which began at `since`, is too long before that.
        """
        began = time.monotonic()
        while True:
            remaining = self._remaining(since or began)
            if remaining <= 0:
                raise PeerTimeout("the other side kept silent for too long")
            patience = began + seconds - time.monotonic()
            ready = self._poll(events, max(0.0, min(remaining, patience)), wake)
            if ready or patience <= 0:
                return ready

    def _remaining(self, since: float) -> float:
        """Seconds until the deadline, or until neither direction has moved for too long."""
        now = time.monotonic()
        idle = max(since, self._moved_at) + self.timeout - now
        return idle if self._deadline is None else min(idle, self._deadline - now)

    def _poll(self, events: int, seconds: float, wake: int | None = None) -> list[int]:
        poller = select.poll()
        try:
            poller.register(self._socket, events)
        except ValueError as error:
            raise ConnectionLost("the connection was closed") from error
        if wake is not None:
            poller.register(wake, select.POLLIN)
        # A longer wait than poll can express comes round again.
        return [found for found, _ in poller.poll(min(seconds, _LONGEST_POLL) * 1000)]


class Body:
    """Raw bytes of a known length, to be read to the end or drained."""

    def __init__(self, channel: Channel, length: int) -> None:
        self.remaining = length
        self._channel = channel

    def read_into(self, view: memoryview) -> None:
        """Fill `view`, which is no longer than what remains."""
        self._channel.read_into(view)
        self.remaining -= len(view)

    def drain(self, scratch: memoryview) -> None:
        """Read what remains and forget it."""
        while self.remaining:
            self.read_into(scratch[: self.remaining])


def expected(message: Message, kind: type[SpecificMessage]) -> SpecificMessage:
    """`message` if it is of this kind; the error it stands for, or ProtocolError."""
    if isinstance(message, kind):
        return message
    if isinstance(message, Error):
        raise from_peer(message.code, message.message, retryable=message.retryable)
    raise ProtocolError(f"a {message.type} message where {kind.type} was expected")


def _awaited(blocked: OSError, events: int) -> int:
    if isinstance(blocked, ssl.SSLWantReadError):
        return select.POLLIN
    if isinstance(blocked, ssl.SSLWantWriteError):
        return select.POLLOUT
    return events
