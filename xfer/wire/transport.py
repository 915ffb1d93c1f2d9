"""A connected socket, with or without TLS: bytes, deadlines, and nothing that means anything.

The socket does not block: whoever can't go on waits in `poll`. This is also
the one place where the socket's errors become our own.
"""

import contextlib
import fcntl
import math
import select
import socket
import ssl
import termios
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from msgspec import Struct

from xfer.errors import ConnectionLost, PeerTimeout, ProtocolError
from xfer.system.stop import Interrupted, StopSignal
from xfer.wire.bandwidth import Bandwidth
from xfer.wire.min_rate import MinimumRate
from xfer.wire.tls_engine import BATCH_BYTES, TLSEngine, closed, map_errors

Value = TypeVar("Value")

_LONGEST_POLL: Final = 3600.0
_UNAUTHENTICATED_BYTES: Final = 8 * 1024
"""Of records, which are received at once."""


class IdleTask(Struct, frozen=True):
    """What to do when there is nothing to receive, until something comes.

    `run` is called before each wait, and again when something can be read
    from `descriptor`. It is told whether anything has come since the last time,
    even if that was too little to be seen, as half a TLS record is.
    """

    descriptor: int
    run: Callable[[bool], None]


class Transport:
    """Bytes over a connected socket, which it owns from here on.

    A wait ends with PeerTimeout when nothing has moved in either direction for
    `timeout` seconds, or at the absolute deadline set with `set_deadline`.
    """

    def __init__(self, connected: socket.socket, timeout: float) -> None:
        connected.setblocking(False)
        with contextlib.suppress(OSError):  # a socket pair has no such option
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._timeout = timeout
        self._tls: TLSEngine | None = None
        self._received = memoryview(bytearray(_UNAUTHENTICATED_BYTES))
        self._deadline: float | None = None
        self._moved_at = time.monotonic()
        self._silent_since: float | None = None
        self.idle_task: IdleTask | None = None
        self.min_rate: MinimumRate | None = None
        self._has_come = False
        self.incoming_limit: Bandwidth | None = None
        self.outgoing_limit: Bandwidth | None = None

    def set_deadline(self, seconds: float | None) -> None:
        """Set the absolute deadline for all that follows; None lifts it."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def mark_authenticated(self) -> None:
        """The other side has proved itself: from here on it is worth more memory."""
        self._received = memoryview(bytearray(BATCH_BYTES))

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

    def peek(self) -> int:
        """The first byte that the peer sent, which stays to be received."""
        first = self._retry(lambda: self._socket.recv(1, socket.MSG_PEEK), select.POLLIN)
        if not first:
            raise closed()
        return first[0]

    def receive_into(self, view: memoryview) -> int:
        """Fill the front of `view`; how many bytes, at least one."""
        if tls := self._tls:
            while not (size := self._decrypt_into(view, tls)):
                self._receive_records(tls)
            return size
        size = self._retry(partial(self._receive, view), select.POLLIN)
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
        self._moved_at = time.monotonic()
        if tls:
            tls.feed(self._received[:size])
            return self._decrypt_into(view, tls)
        if not size:
            raise closed()
        return size

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
            rest = rest[self._retry(partial(self._send, rest), select.POLLOUT) :]

    def _receive(self, view: memoryview) -> int:
        limit = self.incoming_limit
        size = self._socket.recv_into(view[: limit.piece] if limit else view)
        if limit:
            limit.pay(size)
        return size

    def _send(self, data: memoryview) -> int:
        limit = self.outgoing_limit
        size = self._socket.send(data[: limit.piece] if limit else data)
        if limit:
            limit.pay(size)
        return size

    def _decrypt_into(self, view: memoryview, tls: TLSEngine) -> int:
        try:
            return tls.decrypt_into(view)
        except ProtocolError:
            with contextlib.suppress(ConnectionLost):
                self._send_all(tls.outgoing())  # the alert that says why
            raise

    def _receive_records(self, tls: TLSEngine) -> None:
        receive = partial(self._receive, self._received)
        tls.feed(self._received[: self._retry(receive, select.POLLIN)])

    def wait_readable(self, stop: StopSignal | None, seconds: float) -> bool:
        """Wait until there is something to receive; False if that takes longer.

        Raises Interrupted once `stop` is set.
        """
        if self._tls and self._tls.has_more:
            return True
        # Asked again and again, it is still one and the same silence.
        self._silent_since = self._silent_since or time.monotonic()
        ready = self._wait(select.POLLIN, self._silent_since, seconds, stop)
        if stop and stop.descriptor in ready:
            raise Interrupted
        if ready:
            self._silent_since = None
        return bool(ready)

    def end_tls(self) -> None:
        """Send close_notify. What still comes is read as it is from here on, not decrypted."""
        tls, self._tls = self._tls, None
        if tls:
            with contextlib.suppress(OSError):
                self._socket.send(tls.close())

    def shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(how)

    def close(self) -> None:
        self.end_tls()
        self._socket.close()

    def _retry(self, attempt: Callable[[], Value], events: int) -> Value:
        """`attempt` until it neither fails nor would block."""
        blocked_at = None
        while True:
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise PeerTimeout("the other side took too long")
            try:
                with map_errors():
                    result = attempt()
            except BlockingIOError:
                blocked_at = blocked_at or time.monotonic()
                self._wait(events, blocked_at)
            else:
                self._moved_at = time.monotonic()
                return result

    def _wait(
        self,
        events: int,
        since: float,
        seconds: float = math.inf,
        stop: StopSignal | None = None,
    ) -> list[int]:
        """The descriptors that are ready; none after `seconds`.

        PeerTimeout when the silence, which began at `since`, is too long before that.
        """
        ends_at = time.monotonic() + seconds
        queued = self._queued()
        is_receiving = events == select.POLLIN
        idle_task = self.idle_task if is_receiving else None
        min_rate = self.min_rate if is_receiving else None
        while True:
            if idle_task:
                has_come, self._has_come = self._has_come, False
                idle_task.run(has_come)
            if queued != (queued := self._queued()):
                self._moved_at = time.monotonic()
            remaining = self._remaining(since)
            if remaining <= 0:
                raise PeerTimeout("the other side kept silent for too long")
            patience = ends_at - time.monotonic()
            others = [other.descriptor for other in (stop, idle_task) if other]
            began = time.monotonic()
            ready = self._poll(events, max(0.0, min(remaining / 2, patience)), others)
            if min_rate:
                min_rate.waited(time.monotonic() - began)
            if self._socket.fileno() in ready:
                self._moved_at = time.monotonic()  # even if it is no whole TLS record yet
                self._has_come = True
            if idle_task and idle_task.descriptor in ready:
                ready.remove(idle_task.descriptor)
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

    def _poll(self, events: int, seconds: float, others: Iterable[int]) -> list[int]:
        poller = select.poll()
        try:
            poller.register(self._socket, events)
        except ValueError as error:
            raise ConnectionLost("the connection was closed") from error
        for descriptor in others:
            poller.register(descriptor, select.POLLIN)
        # A longer wait than poll can express comes round again.
        return [found for found, _ in poller.poll(min(seconds, _LONGEST_POLL) * 1000)]
