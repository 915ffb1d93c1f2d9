"""A connected socket, with or without TLS: bytes in and out, and no meaning to them.

The socket does not block: a call that cannot go on waits in `Waiter`. The
socket's errors become this package's own here, see `tls_engine.map_errors`.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from xfer.errors import ConnectionLost, ProtocolError
from xfer.system.stop import StopSignal
from xfer.wire.bandwidth import Bandwidth
from xfer.wire.tls_engine import BATCH_BYTES, TLSEngine, closed, map_errors
from xfer.wire.waiter import Waiter

Value = TypeVar("Value")

_UNAUTHENTICATED_BYTES: Final = 8 * 1024
"""Of TLS records received at once, from a peer that has not proved itself."""


class Transport:
    """Bytes over a connected socket, which it owns from here on.

        TLS    in   socket -recv-> _received -feed-> TLSEngine -decrypt_into-> caller's view
               out  caller's data -encrypt-> TLSEngine -outgoing-> -send-> socket
        plain  in   socket -recv-> caller's view
               out  caller's data -send-> socket

    Each recv and send is tried at once. One that would block waits in the
    Waiter, whose docstring lists the limits of a wait, and is tried again; the
    deadline, and whether it is cancelled, are checked before each try, too. What
    has moved is then charged to a bandwidth limit, if there is one, which may sleep.

    One thread receives. One at a time sends, which the caller sees to; it may
    be another one. `close` it when neither thread needs it any more.
    """

    def __init__(self, connected: socket.socket, waiter: Waiter) -> None:
        connected.setblocking(False)
        with contextlib.suppress(OSError):  # a socket pair has no such option
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._waiter = waiter
        # Set while one thread has the connection to itself: in the opening, and at the
        # end. In between both threads use the engine, which has a lock.
        self._tls: TLSEngine | None = None
        # Receiving thread only: records on their way into the engine.
        self._received = memoryview(bytearray(_UNAUTHENTICATED_BYTES))
        # Receiving thread only: monotonic time from which `wait_readable` found nothing.
        self._silent_since: float | None = None
        # Set in the opening. Each is used by many connections' threads, and has a lock.
        self._incoming_limit: Bandwidth | None = None
        self._outgoing_limit: Bandwidth | None = None

    def mark_authenticated(self, incoming: Bandwidth | None, outgoing: Bandwidth | None) -> None:
        """Enlarge the buffer; from here on limit the bytes a second, those of TLS included."""
        self._received = memoryview(bytearray(BATCH_BYTES))
        self._incoming_limit, self._outgoing_limit = incoming, outgoing

    def start_tls(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        """Do the handshake. ProtocolError when the other side does not speak TLS 1.3."""
        self._tls = tls = TLSEngine(context, server_side=server_side)
        is_over = False
        while not is_over:
            try:
                is_over = tls.handshake()
            finally:
                self._send_all(tls.outgoing())  # an alert, if it failed
            if not is_over:
                self._receive_records(tls)

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent now is; not yet during the handshake."""
        return self._tls is not None and self._tls.is_open

    def peer_certificate(self) -> bytes:
        """The other side's certificate in DER, empty when it showed none."""
        return self._tls.peer_certificate() if self._tls else b""

    # Receiving

    def peek(self) -> int:
        """The first byte that the peer sent, which stays to be received."""
        peek = partial(self._socket.recv, 1, socket.MSG_PEEK)
        first = self._retry(peek, self._waiter.wait_readable)
        if not first:
            raise closed()
        return first[0]

    def receive_into(self, view: memoryview) -> int:
        """Fill the front of `view`; how many bytes, at least one."""
        if tls := self._tls:
            while not (size := self._decrypt_into(view, tls)):
                self._receive_records(tls)
            return size
        size = self._retry(partial(self._receive, view), self._waiter.wait_readable)
        if not size:
            raise closed()
        return size

    def receive_now(self, view: memoryview) -> int:
        """Fill the front of `view` with what has come already; how many bytes."""
        tls = self._tls
        if tls and (size := self._decrypt_into(view, tls)):
            return size
        try:
            with map_errors():
                size = self._receive(self._received if tls else view)
        except BlockingIOError:
            return 0
        self._waiter.note_moved()
        if tls:
            tls.feed(self._received[:size])
            return self._decrypt_into(view, tls)
        if not size:
            raise closed()
        return size

    def wait_readable(self, stop: StopSignal | None, seconds: float) -> bool:
        """Wait until there is something to receive; False if that takes longer.

        Raises Interrupted once `stop` is set.
        """
        if self._tls and self._tls.has_more:
            return True
        # Called again after False, it is still one silence, of which the timeout counts all.
        self._silent_since = self._silent_since or time.monotonic()
        is_readable = self._waiter.wait_readable(self._silent_since, seconds, stop)
        if is_readable:
            self._silent_since = None
        return is_readable

    def _receive(self, view: memoryview) -> int:
        limit = self._incoming_limit
        size = self._socket.recv_into(view[: limit.piece] if limit else view)
        if limit:
            limit.pay(size)
        return size

    def _receive_records(self, tls: TLSEngine) -> None:
        receive = partial(self._receive, self._received)
        tls.feed(self._received[: self._retry(receive, self._waiter.wait_readable)])

    def _decrypt_into(self, view: memoryview, tls: TLSEngine) -> int:
        try:
            return tls.decrypt_into(view)
        except ProtocolError:
            # The alert that says why. The receiving thread sends it, maybe into the middle
            # of what the sending one sends: this connection is over either way.
            with contextlib.suppress(ConnectionLost):
                self._send_all(tls.outgoing())
            raise

    # Sending

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the system. One thread at a time."""
        if self._tls is None:
            self._send_all(data)
            return
        rest = memoryview(data)
        while rest:
            rest = self._tls.encrypt(rest)
            self._send_all(self._tls.outgoing())

    def _send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._retry(partial(self._send, rest), self._waiter.wait_writable) :]

    def _send(self, data: memoryview) -> int:
        limit = self._outgoing_limit
        size = self._socket.send(data[: limit.piece] if limit else data)
        if limit:
            limit.pay(size)
        return size

    # Ending

    def end_tls(self) -> None:
        """Send close_notify. What still comes is read as it is from here on, not decrypted."""
        tls, self._tls = self._tls, None
        if tls:
            with contextlib.suppress(OSError):
                self._socket.send(tls.close())

    def shut_down(self, how: int) -> None:
        """Shut one or both directions down, see shutdown(2). Any thread may."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket, after a last TLS record that says so."""
        self.end_tls()
        self._socket.close()

    def _retry(self, attempt: Callable[[], Value], wait: Callable[[float], object]) -> Value:
        """What `attempt` returns once it would not block; until then, `wait`."""
        blocked_at = None
        while True:
            self._waiter.check()
            try:
                with map_errors():
                    result = attempt()
            except BlockingIOError:
                blocked_at = blocked_at or time.monotonic()
                wait(blocked_at)
            else:
                self._waiter.note_moved()
                return result
