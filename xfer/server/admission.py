"""Who may come in: how many strangers, how many senders, and who has to wait.

A stranger is a connection that has not proved itself yet. Strangers and
senders are counted apart, so that no number of the first keeps the second out:

- From half of `max_unauthenticated` on, each newcomer costs somebody his place
  with a probability that grows from 30 % to certainty at the limit, as sshd's
  MaxStartups does. But who that is, the newcomer or one of those who wait, is
  drawn by lot: an honest opening is over in a few round trips and is hardly
  ever drawn, while strangers that hold their places are, however fast they
  come back. To drop newcomers alone would let these keep everybody out.
- One network, which is an IPv4 address or the /64 that an IPv6 host can pick
  its address from, gets half of the places, and so brings nobody else there.
- After a few wrong proofs a network waits, twice as long after each further
  one. A right proof forgives them all, and time does.

Knows no sockets: it counts, and calls `abort` of who has to go.
"""

import ipaddress
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from xfer.config.defaults import MAX_CONNECTIONS, MAX_UNAUTHENTICATED
from xfer.errors import Code, Refused

OPENING_SECONDS: Final = 30.0
_FIRST_CHANCE: Final = 0.3
_FREE_FAILURES: Final = 5
"""A person who has mistyped a secret, or a script with an old one, is not in the way yet."""
_CROWD: Final = 8
_LONGEST_WAIT: Final = 60.0
_FORGOTTEN_AFTER: Final = 900.0
_MOST_REMEMBERED: Final = 4096
_IPV6_HOST_BITS: Final = 64


class ConnectionLimits(Struct, frozen=True):
    """What the world may take of a receiver.

    `opening_seconds` is for TLS, the opening and the first message after it,
    all together. `min_rate` (bytes a second, 0 for none) is what a body has to
    flow at, on average, and `bwlimit` (likewise) what all senders together may
    send.
    """

    max_unauthenticated: int = MAX_UNAUTHENTICATED
    max_connections: int = MAX_CONNECTIONS
    opening_seconds: float = OPENING_SECONDS
    min_rate: int = 0
    bwlimit: int = 0


class Connection:
    """One connection, as admission counts it. `network` is what it comes from."""

    def __init__(self, network: str, abort: Callable[[], None]) -> None:
        self.network = network
        # Replaced whole by the connection's own thread; called by any. A thread that still
        # calls the one before shuts down the same socket.
        self._abort = abort

    def attach(self, abort: Callable[[], None]) -> None:
        """From here on this makes every thread that waits on the connection fail."""
        self._abort = abort

    def detach(self) -> None:
        """The connection is closed. What it had may be freed: nothing here refers to it."""
        self._abort = _nothing

    def abort(self) -> None:
        """Make every thread that waits on the connection fail, now."""
        self._abort()


def _nothing() -> None:
    pass


class SenderSlots:
    """How many senders there may be. Used by one thread at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def acquire(self) -> bool:
        """Whether there is one; it is taken then."""
        is_free = self._taken < self._most
        self._taken += is_free
        return is_free

    def release(self) -> None:
        self._taken -= 1


class Admission:
    """Keeps count of who is in. Any thread may call anything.

    `slots` and `penalties` are its own unless they are given, to be shared with others.
    `chance` gives numbers from 0 up to, but not, 1, `clock` seconds.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        slots: SenderSlots | None = None,
        penalties: "Penalties | None" = None,
    ) -> None:
        self._most_unauthenticated = max(1, limits.max_unauthenticated)
        self._slots = slots or SenderSlots(max(1, limits.max_connections))
        self._crowded = max(1, self._most_unauthenticated // 2)
        self._chance = chance
        self._clock = clock
        self._unauthenticated: list[Connection] = []
        self._senders: set[Connection] = set()
        self._leaving: set[Connection] = set()
        self._most_at_once = 0
        self._penalties = Penalties(clock) if penalties is None else penalties
        self._changed = threading.Condition()

    def admit(self, host: str, abort: Callable[[], None]) -> Connection | None:
        """A place for a stranger from `host`; None when he has to be dropped.

        Somebody else may be cut off for it.
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
        """His network has one chance less."""
        with self._changed:
            self._penalties.add(connection.network)

    def proved(self, connection: Connection) -> None:
        """A stranger has become a sender. Refused (busy) when there are too many of them."""
        with self._changed:
            self._penalties.forgive(connection.network)
            if not self._slots.acquire():
                raise Refused("the receiver has too many senders at once", code=Code.BUSY)
            self._forget_unauthenticated(connection)
            self._senders.add(connection)
            self._changed.notify_all()

    def leave(self, connection: Connection) -> bool:
        """He is gone. Whether he was the last of a crowd."""
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
        """Wait so long for those who are just opening; the rest is not waited for."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unauthenticated, seconds)
            for connection in list(self._unauthenticated):
                self._abort(connection)

    def abort_all_after(self, seconds: float, then: float) -> None:
        """Wait so long until everybody has left, cut off the rest, and wait `then` for that."""
        with self._changed:
            if not self._changed.wait_for(self._is_empty, seconds):
                for connection in list(self._senders):
                    connection.abort()
                self._changed.wait_for(self._is_empty, then)

    def _is_empty(self) -> bool:
        return not (self._unauthenticated or self._senders or self._leaving)

    def _make_room(self, network: str) -> bool:
        """Whether there is a place; if need be, there is after this."""
        its_own = [other for other in self._unauthenticated if other.network == network]
        if len(its_own) >= self._crowded:
            return self._draw(its_own)
        count, most = len(self._unauthenticated), self._most_unauthenticated
        share = (count - self._crowded) / max(1, most - self._crowded)
        chance = _FIRST_CHANCE + (1 - _FIRST_CHANCE) * share
        if count < self._crowded or (count < most and self._chance() >= chance):
            return True
        return self._draw(self._unauthenticated)

    def _draw(self, unauthenticated: list[Connection]) -> bool:
        """Cut off one of them, or nobody: then it is the newcomer who was drawn."""
        drawn = int(self._chance() * (len(unauthenticated) + 1))
        if drawn >= len(unauthenticated):
            return False
        self._abort(unauthenticated[drawn])
        return True

    def _abort(self, connection: Connection) -> None:
        """His place is free from now on, although his thread takes a moment to end."""
        self._forget_unauthenticated(connection)
        self._leaving.add(connection)
        connection.abort()

    def _forget_unauthenticated(self, connection: Connection) -> None:
        if connection in self._unauthenticated:
            self._unauthenticated.remove(connection)


class Penalties:
    """Which networks have to wait for how long. Bounded: the oldest are forgotten first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, network: str) -> None:
        self._remember(network, self._recent(network) + 1, self._clock())

    def forgive(self, network: str) -> None:
        self._failures.pop(network, None)

    def seconds_left(self, network: str) -> float:
        """Until somebody from there may come again."""
        above_free = self._recent(network) - _FREE_FAILURES
        if above_free < 0:
            return 0.0
        _, last = self._remembered(network)
        return last + min(2.0**above_free, _LONGEST_WAIT) - self._clock()

    def _recent(self, network: str) -> int:
        count, last = self._remembered(network)
        return count if self._clock() - last < _FORGOTTEN_AFTER else 0

    def _remember(self, network: str, count: int, last: float) -> None:
        self._failures[network] = count, last
        self._failures.move_to_end(network)
        if len(self._failures) > _MOST_REMEMBERED:
            self._failures.popitem(last=False)

    def _remembered(self, network: str) -> tuple[int, float]:
        """How many failures there were, and when the last one was."""
        return self._failures.get(network, (0, 0.0))

    def __len__(self) -> int:
        return len(self._failures)


def network_of(host: str) -> str:
    """What counts as one connection: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 128 - _IPV6_HOST_BITS), strict=False))
    return str(address)
