"""Which connections are admitted, and which of them have a sender's slot.

A connection is unauthenticated until its sender has proved a key. Both kinds are
counted apart, so that no number of unauthenticated ones keeps a sender out:

- From half of `max_unauthenticated` on, each new connection costs one of the
  unauthenticated its place, with a probability that grows from 30 % to certainty
  at the limit, as sshd's MaxStartups does. But which one is drawn by lot, the new
  one included: an honest opening is over in a few round trips and is hardly ever
  drawn, while connections that only hold their places are, however fast they come
  back. To drop new ones alone would let those keep everybody out.
- One network (see `penalties`) gets half of the places, and then draws among its
  own connections only.
- After a few wrong proofs a network waits, twice as long after each further one.
  A right proof, or time, clears that.

Knows no sockets: it counts, and calls `abort` of a connection that has to go.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from xfer.config.defaults import MAX_CONNECTIONS, MAX_UNAUTHENTICATED, OPENING_SECONDS
from xfer.errors import Code, Refused
from xfer.server.penalties import Penalties, network_of

_FIRST_CHANCE: Final = 0.3
_CROWD: Final = 8
"""Connections at once, after which their threads' memory is worth giving back."""


class ConnectionLimits(Struct, frozen=True):
    """How many connections there may be at once, how long an opening takes, and rates.

    `opening_seconds` is for TLS, the opening and the first message together.
    Bodies have to arrive at `min_rate` bytes a second on average (0: any rate), and
    all senders together may send `bwlimit` bytes a second (0: no limit).
    """

    max_unauthenticated: int = MAX_UNAUTHENTICATED
    max_connections: int = MAX_CONNECTIONS
    opening_seconds: float = OPENING_SECONDS
    min_rate: int = 0
    bwlimit: int = 0


class Connection:
    """One connection, as admission counts it. `network` is where it comes from."""

    def __init__(self, network: str, abort: Callable[[], None]) -> None:
        self.network = network
        # Replaced by the connection's own thread, called by any. A thread that calls the one
        # before meanwhile shuts down the same socket.
        self._abort = abort

    def attach(self, abort: Callable[[], None]) -> None:
        """From here on, `abort` makes every thread that waits on the connection fail."""
        self._abort = abort

    def detach(self) -> None:
        """The connection is closed: refer to nothing of it, so that its buffers are freed."""
        self._abort = _nothing

    def abort(self) -> None:
        """Make every thread that waits on the connection fail, now."""
        self._abort()


def _nothing() -> None:
    pass


class SenderSlots:
    """Slots for so many senders at once. Not locked: `Admission` calls it with its lock held."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def acquire(self) -> bool:
        """Take a slot; False when there is none."""
        is_free = self._taken < self._most
        self._taken += is_free
        return is_free

    def release(self) -> None:
        self._taken -= 1


class Admission:
    """Counts connections. Any thread may call anything.

    `slots` and `penalties` are its own unless they are given, to be shared between
    processes. `chance` gives random numbers in [0, 1), `clock` seconds.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        slots: SenderSlots | None = None,
        penalties: Penalties | None = None,
    ) -> None:
        self._most_unauthenticated = max(1, limits.max_unauthenticated)
        self._crowded = max(1, self._most_unauthenticated // 2)
        self._chance = chance
        self._slots = slots or SenderSlots(max(1, limits.max_connections))
        self._penalties = Penalties(clock) if penalties is None else penalties
        # Guards all that follows, the slots and the penalties; notified when one of them shrinks.
        self._changed = threading.Condition()
        self._unauthenticated: list[Connection] = []
        self._senders: set[Connection] = set()
        self._leaving: set[Connection] = set()
        """Aborted, but their threads have not ended yet."""
        self._most_at_once = 0
        """Connections, since there was last none."""

    def admit(self, host: str, abort: Callable[[], None]) -> Connection | None:
        """A new connection from `host`; None when it has to be closed at once.

        Another one may be aborted for it.
        """
        network = network_of(host)
        with self._changed:
            if self._penalties.seconds_left(network) > 0 or not self._make_room(network):
                return None
            connection = Connection(network, abort)
            self._unauthenticated.append(connection)
            present = len(self._unauthenticated) + len(self._senders)
            self._most_at_once = max(self._most_at_once, present)
            return connection

    def failed_proof(self, connection: Connection) -> None:
        """Count a wrong proof of its network, which may have to wait for it."""
        with self._changed:
            self._penalties.add(connection.network)

    def proved(self, connection: Connection) -> None:
        """It is a sender's now. Refused (busy) when there are too many senders."""
        with self._changed:
            self._penalties.forgive(connection.network)
            if not self._slots.acquire():
                raise Refused("the receiver has too many senders at once", code=Code.BUSY)
            self._forget_unauthenticated(connection)
            self._senders.add(connection)
            self._changed.notify_all()

    def leave(self, connection: Connection) -> bool:
        """It is closed. True when it was the last one of a crowd."""
        with self._changed:
            self._forget_unauthenticated(connection)
            if connection in self._senders:
                self._senders.discard(connection)
                self._slots.release()
            self._leaving.discard(connection)
            self._changed.notify_all()
            if not self._is_empty():
                return False
            most, self._most_at_once = self._most_at_once, 0
            return most >= _CROWD

    def abort_unauthenticated_after(self, seconds: float) -> None:
        """Wait so long for openings to end, then abort those that have not."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unauthenticated, seconds)
            for connection in list(self._unauthenticated):
                self._abort(connection)

    def abort_all_after(self, seconds: float, then: float) -> None:
        """Wait so long until all have left, abort the others, and wait `then` for their end."""
        with self._changed:
            if not self._changed.wait_for(self._is_empty, seconds):
                for connection in list(self._senders):
                    connection.abort()
                self._changed.wait_for(self._is_empty, then)

    def _is_empty(self) -> bool:
        return not (self._unauthenticated or self._senders or self._leaving)

    def _make_room(self, network: str) -> bool:
        """Whether a new connection has a place, perhaps after another one was aborted."""
        its_own = [other for other in self._unauthenticated if other.network == network]
        if len(its_own) >= self._crowded:
            return self._draw(its_own)
        count, most = len(self._unauthenticated), self._most_unauthenticated
        share = (count - self._crowded) / max(1, most - self._crowded)
        chance = _FIRST_CHANCE + (1 - _FIRST_CHANCE) * share
        if count < self._crowded or (count < most and self._chance() >= chance):
            return True
        return self._draw(self._unauthenticated)

    def _draw(self, candidates: list[Connection]) -> bool:
        """Abort one of `candidates`; False when it is the new connection that was drawn."""
        drawn = int(self._chance() * (len(candidates) + 1))
        if drawn >= len(candidates):
            return False
        self._abort(candidates[drawn])
        return True

    def _abort(self, connection: Connection) -> None:
        """Its place is free from now on, although its thread takes a moment to end."""
        self._forget_unauthenticated(connection)
        self._leaving.add(connection)
        connection.abort()

    def _forget_unauthenticated(self, connection: Connection) -> None:
        if connection in self._unauthenticated:
            self._unauthenticated.remove(connection)
