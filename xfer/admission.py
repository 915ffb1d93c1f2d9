"""Who may come in: how many strangers, how many senders, and who has to wait.

A stranger is a connection that has not proved itself yet. Strangers and
senders are counted apart, so that no number of the first keeps the second out:

- From half of `max_unauthenticated` on, a newcomer takes the place of whoever
  has kept his own for longest, if that is more than a few seconds: an honest
  opening takes a few round trips. If nobody has, the newcomer is dropped with
  a probability that grows from 30 % to certainty at the limit (what sshd calls
  MaxStartups), so that everybody has a chance.
- One network, which is an IPv4 address or the /64 that an IPv6 host can pick
  its address from, gets half of the places, and so brings nobody else there.
- After a few wrong proofs a network waits, twice as long after each further
  one. A right proof forgives them all, and time does.

Knows no sockets: it counts, and calls `cut_off` of who has to go.
"""

import ipaddress
import random
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from xfer.errors import Code, Refused

MAX_UNAUTHENTICATED: Final = 100
MAX_CONNECTIONS: Final = 256
OPENING_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 2.0
"""So long a stranger keeps his place, however many want it."""
_FIRST_CHANCE_OF_DROP: Final = 0.3
_FREE_FAILURES: Final = 5
"""A person who has mistyped a secret, or a script with an old one, is not in the way yet."""
_LONGEST_WAIT: Final = 60.0
_FORGOTTEN_AFTER: Final = 900.0
_MOST_REMEMBERED: Final = 4096
_IPV6_HOST_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What the world may take of a receiver.

    `opening_seconds` is for TLS, the opening and the first message after it,
    all together. `min_rate` (bytes a second, 0 for none) is what a body has to
    flow at, on average.
    """

    max_unauthenticated: int = MAX_UNAUTHENTICATED
    max_connections: int = MAX_CONNECTIONS
    opening_seconds: float = OPENING_SECONDS
    min_rate: int = 0


@dataclass(eq=False, slots=True)
class Visitor:
    """One connection. `cut_off` makes everybody who waits on it fail, at once."""

    network: str
    since: float
    cut_off: Callable[[], None]


class Admission:
    """Keeps count of who is in. Any thread may call anything.

    `chance` gives numbers from 0 to 1, `clock` seconds.
    """

    def __init__(
        self,
        limits: Limits,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_strangers = max(1, limits.max_unauthenticated)
        self._most_senders = max(1, limits.max_connections)
        self._crowded = max(1, self._most_strangers // 2)
        self._chance = chance
        self._clock = clock
        self._strangers: dict[Visitor, None] = {}  # the longest waiting first
        self._per_network: Counter[str] = Counter()
        self._senders: set[Visitor] = set()
        self._leaving: set[Visitor] = set()
        self._penalties = Penalties(clock)
        self._changed = threading.Condition()

    def let_in(self, host: str, cut_off: Callable[[], None]) -> Visitor | None:
        """A place for a stranger from `host`; None when he has to be dropped.

        Somebody else may be cut off for it.
        """
        network = network_of(host)
        with self._changed:
            if self._penalties.seconds_left(network) > 0 or not self._make_room(network):
                return None
            visitor = Visitor(network, self._clock(), cut_off)
            self._strangers[visitor] = None
            self._per_network[network] += 1
            return visitor

    def failed_proof(self, visitor: Visitor) -> None:
        """His network has one chance less."""
        with self._changed:
            self._penalties.add(visitor.network)

    def proved(self, visitor: Visitor) -> None:
        """A stranger has become a sender. Refused (busy) when there are too many of them."""
        with self._changed:
            self._penalties.forgive(visitor.network)
            if len(self._senders) >= self._most_senders:
                raise Refused("the receiver has too many senders at once", code=Code.BUSY)
            self._forget_stranger(visitor)
            self._senders.add(visitor)
            self._changed.notify_all()

    def leave(self, visitor: Visitor) -> None:
        """He is gone. Safe to call twice."""
        with self._changed:
            self._forget_stranger(visitor)
            self._senders.discard(visitor)
            self._leaving.discard(visitor)
            self._changed.notify_all()

    def cut_off_strangers_after(self, seconds: float) -> None:
        """Wait so long for those who are just opening; the rest is not waited for."""
        with self._changed:
            self._changed.wait_for(lambda: not self._strangers, seconds)
            for visitor in list(self._strangers):
                self._cut_off(visitor)

    def cut_off_all_after(self, seconds: float, then: float) -> None:
        """Wait so long until everybody has left, cut off the rest, and wait `then` for that."""
        with self._changed:
            if not self._changed.wait_for(self._is_empty, seconds):
                for visitor in list(self._senders):
                    visitor.cut_off()
                self._changed.wait_for(self._is_empty, then)

    def _is_empty(self) -> bool:
        return not (self._strangers or self._senders or self._leaving)

    def _make_room(self, network: str) -> bool:
        """Whether there is a place; if need be, there is after this."""
        if self._per_network[network] >= self._crowded:
            return self._displace(network)
        count = len(self._strangers)
        if count < self._crowded or self._displace():
            return True
        share = (count - self._crowded) / (self._most_strangers - self._crowded or 1)
        chance_of_drop = _FIRST_CHANCE_OF_DROP + (1 - _FIRST_CHANCE_OF_DROP) * share
        return count < self._most_strangers and self._chance() >= chance_of_drop

    def _displace(self, network: str | None = None) -> bool:
        """Cut off whoever has waited for longest (in one network), unless all are new."""
        for visitor in self._strangers:
            if self._clock() - visitor.since < GRACE_SECONDS:
                return False
            if network in (None, visitor.network):
                self._cut_off(visitor)
                return True
        return False

    def _cut_off(self, visitor: Visitor) -> None:
        """His place is free from now on, although his thread takes a moment to end."""
        self._forget_stranger(visitor)
        self._leaving.add(visitor)
        visitor.cut_off()

    def _forget_stranger(self, visitor: Visitor) -> None:
        if visitor in self._strangers:
            del self._strangers[visitor]
            self._per_network[visitor.network] -= 1
            if not self._per_network[visitor.network]:
                del self._per_network[visitor.network]


class Penalties:
    """Which networks have to wait for how long. Bounded: the oldest are forgotten first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, network: str) -> None:
        self._failures[network] = (self._recent(network) + 1, self._clock())
        self._failures.move_to_end(network)
        if len(self._failures) > _MOST_REMEMBERED:
            self._failures.popitem(last=False)

    def forgive(self, network: str) -> None:
        self._failures.pop(network, None)

    def seconds_left(self, network: str) -> float:
        """Until somebody from there may come again."""
        above_free = self._recent(network) - _FREE_FAILURES
        if above_free < 0:
            return 0.0
        _, last = self._failures[network]
        return last + min(2.0**above_free, _LONGEST_WAIT) - self._clock()

    def _recent(self, network: str) -> int:
        count, last = self._failures.get(network, (0, 0.0))
        return count if self._clock() - last < _FORGOTTEN_AFTER else 0

    def __len__(self) -> int:
        return len(self._failures)


def network_of(host: str) -> str:
    """What counts as one visitor: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 128 - _IPV6_HOST_BITS), strict=False))
    return str(address)
