"""Waits until a socket can be read or written, for as long as the peer may take.

`Transport` first tries to receive or to send, and comes here only when that would block.
"""

import fcntl
import math
import select
import socket
import termios
import time
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from xfer.errors import ConnectionLost, PeerTimeout
from xfer.system.stop import Interrupted, StopSignal
from xfer.wire.cancel import CancelToken
from xfer.wire.min_rate import MinimumRate

_LONGEST_POLL: Final = 3600.0
"""Seconds. poll(2) takes its timeout as a C int of milliseconds; a longer wait polls again."""


class IdleTask(Struct, frozen=True):
    """Work for the receiving thread while there is nothing to receive.

    `run` is called before each wait, and again once something can be read from
    `descriptor`. It is told whether bytes have arrived since the call before,
    even if they were too few to be seen above TLS, as half a record is.

    So a receiver stores and acknowledges files while it waits for more of them:

        nothing to receive -> wait_readable -> run -> commit what has arrived
        a flush is over, in another thread -> descriptor -> run -> send the receipts

    It is called from in here because a wait in the middle of a frame or a body
    has to call it, too: files that arrived before that body get their receipts
    while the body is still on its way. It may send, but not receive.
    """

    descriptor: int
    run: Callable[[bool], None]


class Waiter:
    """The waits of one socket, and the limits on them.

    One thread waits to receive; another may wait to send at the same time.

        limit         applies to                                   then
        deadline      all attempts and waits until it is lifted,   PeerTimeout
                      even while bytes keep moving
        timeout       each wait in which nothing moves, either     PeerTimeout
                      way, for so many seconds
        minimum rate  the waits within a body                      PeerTimeout
        `cancel`      all attempts and waits                       Cancelled
        `stop`        a wait for the next message                  Interrupted
        `seconds`     a wait for the next message                  False

    Something moves when bytes are received, when the system takes bytes to be
    sent, and when the peer acknowledges some of those: over a slow line that
    goes on for long after the last of them was handed to the system.
    """

    def __init__(
        self, connected: socket.socket, timeout: float, cancel: CancelToken | None = None
    ) -> None:
        self._socket = connected
        self._timeout = timeout
        self._cancel = cancel
        # Monotonic time, or None. Any thread may set it, and both read it: one
        # reference, replaced whole. A poll under way does not see a new one.
        self._deadline: float | None = None
        # Monotonic time. The receiving and the sending thread both write it: one
        # reference, replaced whole, and either writes the time it is.
        self._moved_at = time.monotonic()
        # These three are the receiving thread's.
        self._idle_task: IdleTask | None = None
        self._min_rate: MinimumRate | None = None
        self._has_received = False  # since the idle task was last run

    def set_deadline(self, seconds: float | None) -> None:
        """Set the deadline to so many seconds from now; None lifts it."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def set_idle_task(self, idle_task: IdleTask | None) -> None:
        """Have this run while nothing can be received."""
        self._idle_task = idle_task

    def set_min_rate(self, min_rate: MinimumRate | None) -> None:
        """Report to this how long nothing could be received."""
        self._min_rate = min_rate

    def check(self) -> None:
        """Raises PeerTimeout once the deadline has passed, and Cancelled."""
        if self._cancel:
            self._cancel.check()
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise PeerTimeout("the other side took too long")

    def note_moved(self) -> None:
        """Bytes were received or sent."""
        self._moved_at = time.monotonic()

    def silence(self) -> float:
        """Seconds since anything moved; 0 while bytes wait to be received. Any thread may ask."""
        return 0.0 if self._count(termios.FIONREAD) else time.monotonic() - self._moved_at

    def wait_writable(self, since: float) -> None:
        """Wait until the system takes more bytes to be sent.

        The silence counts from `since` (monotonic time), see `wait_readable`.
        """
        queued = self._queued()
        while not self._poll(select.POLLOUT, self._remaining(since) / 2):
            queued = self._note_acknowledged(queued)
        self.note_moved()

    def wait_readable(
        self, since: float, seconds: float = math.inf, stop: StopSignal | None = None
    ) -> bool:
        """Wait until something can be received; False after `seconds`.

        `since` (monotonic time) is when the caller first had to wait: silence
        counts from there, or from when bytes last moved if that is later.
        Raises PeerTimeout, see above, and Interrupted once `stop` is set.
        """
        ends_at = time.monotonic() + seconds
        queued = self._queued()
        while True:
            self._run_idle_task()  # which may take long
            queued = self._note_acknowledged(queued)
            left = ends_at - time.monotonic()
            ready = self._poll_readable(min(self._remaining(since) / 2, left), stop)
            if stop and stop.descriptor in ready:
                raise Interrupted
            if ready:
                return True
            if left <= 0:
                return False

    def _run_idle_task(self) -> None:
        if self._idle_task:
            has_received, self._has_received = self._has_received, False
            self._idle_task.run(has_received)

    def _queued(self) -> int:
        """Bytes sent that the peer has not acknowledged yet; 0 where that is not known."""
        return self._count(termios.TIOCOUTQ)

    def _count(self, request: int) -> int:
        """The bytes that this ioctl counts; 0 where that is not known."""
        try:
            return int.from_bytes(fcntl.ioctl(self._socket, request, bytes(4)), "little")
        except (OSError, ValueError):
            return 0

    def _note_acknowledged(self, queued_before: int) -> int:
        """Note if the queue has changed since; what is in it now."""
        queued = self._queued()
        if queued != queued_before:
            self.note_moved()
        return queued

    def _remaining(self, since: float) -> float:
        """Seconds, more than 0, until the wait is over. PeerTimeout if it is.

        A wait polls for half of them at once, to look at the queue before the
        peer is given up: no event tells that bytes were acknowledged.
        """
        now = time.monotonic()
        remaining = max(since, self._moved_at) + self._timeout - now
        if self._deadline is not None:
            remaining = min(remaining, self._deadline - now)
        if remaining <= 0:
            raise PeerTimeout("the other side kept silent for too long")
        return remaining

    def _poll_readable(self, seconds: float, stop: StopSignal | None) -> list[int]:
        """Which descriptors can be read, the idle task's left out: its turn comes by itself."""
        idle_task = self._idle_task
        began = time.monotonic()
        others = [other.descriptor for other in (stop, idle_task) if other]
        ready = self._poll(select.POLLIN, seconds, others)
        if self._min_rate:
            self._min_rate.waited(time.monotonic() - began)
        if self._socket.fileno() in ready:
            self.note_moved()  # even if these bytes are no whole TLS record yet
            self._has_received = True
        if idle_task and idle_task.descriptor in ready:
            ready.remove(idle_task.descriptor)
        return ready

    def _poll(self, events: int, seconds: float, others: Iterable[int] = ()) -> list[int]:
        """Which of the socket (for `events`) and `others` (to be read) are ready."""
        poller = select.poll()
        try:
            poller.register(self._socket, events)
        except ValueError as error:
            raise ConnectionLost("the connection was closed") from error
        for descriptor in others:
            poller.register(descriptor, select.POLLIN)
        if self._cancel:
            poller.register(self._cancel.descriptor, select.POLLIN)
        milliseconds = max(0.0, min(seconds, _LONGEST_POLL)) * 1000
        ready = [found for found, _ in poller.poll(milliseconds)]
        if self._cancel:
            self._cancel.check()
        return ready
