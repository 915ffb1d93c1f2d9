"""A connected socket, with or without TLS: bytes, deadlines, and nothing that means anything.

The socket does not block: whoever can't go on waits in `poll`, outside the
lock that every call into the socket takes, because OpenSSL does not allow two
threads in one connection at once. This is also the one place where the
socket's errors become our own.
"""

import contextlib
import fcntl
import math
import os
import select
import socket
import ssl
import termios
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from xfer.errors import ConnectionLost, PeerTimeout, ProtocolError

Result = TypeVar("Result")

_LONGEST_POLL: Final = 3600.0


class Interrupted(Exception):
    """The stop signal was set while somebody waited, or before."""


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


class Transport:
    """Bytes over a connected socket, which it owns from here on.

    A wait ends with PeerTimeout when nothing has moved in either direction for
    `timeout` seconds, or at the absolute deadline set with `must_end_within`.
    `when_something_comes` is called during waits for more of it, even if what
    came is too little to be seen, as half a TLS record is.
    """

    def __init__(self, connected: socket.socket, timeout: float) -> None:
        connected.setblocking(False)
        with contextlib.suppress(OSError):  # a socket pair has no such option
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._timeout = timeout
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._moved_at = time.monotonic()
        self._silent_since: float | None = None
        self.when_something_comes: Callable[[], None] = lambda: None

    def must_end_within(self, seconds: float | None) -> None:
        """Set the absolute deadline for all that follows; None lifts it."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def start_tls(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        """Do the handshake. ProtocolError when the other side does not speak TLS 1.3."""
        self._retry(self._socket.getpeername, 0)  # the wrapper would leak a socket that is reset
        wrap = partial(context.wrap_socket, do_handshake_on_connect=False)
        self._socket = self._retry(lambda: wrap(self._socket, server_side=server_side), 0)
        self._retry(self._socket.do_handshake, select.POLLIN)

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent now is; not yet during the handshake."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.version() is not None

    def peer_certificate(self) -> bytes:
        """The other side's certificate in DER, empty when it showed none."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return b""
        return self._socket.getpeercert(binary_form=True) or b""

    def peek(self) -> int:
        """The first byte that the peer sent, which stays to be received."""
        first = self._retry(lambda: self._socket.recv(1, socket.MSG_PEEK), select.POLLIN)
        if not first:
            raise ConnectionLost("the other side closed the connection")
        return first[0]

    def receive_into(self, view: memoryview) -> int:
        """Fill the front of `view`; how many bytes, at least one."""
        size = self._retry(partial(self._socket.recv_into, view), select.POLLIN)
        if not size:
            raise ConnectionLost("the other side closed the connection")
        return size

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the system. One thread at a time."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._retry(partial(self._socket.send, rest), select.POLLOUT) :]

    def wait_readable(self, stop: StopSignal | None, seconds: float) -> bool:
        """Wait until there is something to receive; False if that takes longer.

        Raises Interrupted once `stop` is set.
        """
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
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

    def end_tls(self) -> None:
        """Send close_notify. What still comes is read as it is from here on, not decrypted."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if isinstance(self._socket, ssl.SSLSocket):
                with contextlib.suppress(OSError, ValueError):
                    self._socket.unwrap()
                self._socket = socket.socket(fileno=self._socket.detach())
                self._socket.setblocking(False)

    def shut_down(self, how: int) -> None:
        """Past the TLS layer, which would forget that there is one."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)

    def close(self) -> None:
        self.end_tls()
        self._socket.close()

    def _retry(self, attempt: Callable[[], Result], events: int) -> Result:
        """`attempt` until it neither fails nor would block."""
        while True:
            try:
                with self._lock:
                    result = attempt()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as blocked:
                self._wait(_awaited(blocked, events))
                if events == select.POLLIN:
                    self.when_something_comes()
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
        queued = self._queued()
        while True:
            if queued != (queued := self._queued()):
                self._moved_at = time.monotonic()
            remaining = self._remaining(since or began)
            if remaining <= 0:
                raise PeerTimeout("the other side kept silent for too long")
            patience = began + seconds - time.monotonic()
            ready = self._poll(events, max(0.0, min(remaining / 2, patience)), wake)
            if ready:
                self._moved_at = time.monotonic()  # even if it is no whole TLS record yet
            if ready or patience <= 0:
                return ready

    def _remaining(self, since: float) -> float:
        """Seconds until the deadline, or until neither direction has moved for too long."""
        now = time.monotonic()
        idle = max(since, self._moved_at) + self._timeout - now
        return idle if self._deadline is None else min(idle, self._deadline - now)

    def _queued(self) -> int:
        """Bytes that the other side's system has not taken yet; a slow line moves them, too."""
        try:
            return int.from_bytes(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)), "little")
        except (OSError, ValueError):
            return 0

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


def _awaited(blocked: OSError, events: int) -> int:
    if isinstance(blocked, ssl.SSLWantReadError):
        return select.POLLIN
    if isinstance(blocked, ssl.SSLWantWriteError):
        return select.POLLOUT
    return events
