"""Which networks have to wait after wrong proofs, and for how long.

A network is what one attacker easily has all addresses of: an IPv4 address, or
the /64 that an IPv6 host can pick its address from.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_FIRST_PUNISHED: Final = 5
"""Fewer wrong proofs cost nothing, for a person may mistype; this one costs a second."""
_DOUBLINGS: Final = 6
"""Of that second, until `_LONGEST_WAIT` ends it. Doubled without end, a float overflows some day,
and the error would end the thread that accepts connections."""
_LONGEST_WAIT: Final = 60.0
_FORGOTTEN_AFTER: Final = 900.0
"""Seconds since the last wrong proof."""
_MOST_REMEMBERED: Final = 4096
"""Networks: an attacker may have more, and they must not fill the memory."""
_IPV6_HOST_BITS: Final = 64


class Penalties:
    """The wrong proofs of each network. The oldest are forgotten first.

    Not locked: `Admission` calls it with its own lock held. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, network: str) -> None:
        """Count one more wrong proof."""
        self._remember(network, self._recent(network) + 1, self._clock())

    def forgive(self, network: str) -> None:
        """Forget its wrong proofs, after a right one."""
        self._failures.pop(network, None)

    def seconds_left(self, network: str) -> float:
        """How long connections from there are still refused: 1, 2, 4 … 60 s after the last."""
        doublings = self._recent(network) - _FIRST_PUNISHED
        if doublings < 0:
            return 0.0
        _, last = self._remembered(network)
        wait = min(2.0 ** min(doublings, _DOUBLINGS), _LONGEST_WAIT)
        return last + wait - self._clock()

    def _recent(self, network: str) -> int:
        count, last = self._remembered(network)
        return count if self._clock() - last < _FORGOTTEN_AFTER else 0

    # Where they are kept, which `SharedPenalties` does differently

    def _remember(self, network: str, count: int, last: float) -> None:
        self._failures[network] = count, last
        self._failures.move_to_end(network)
        if len(self._failures) > _MOST_REMEMBERED:
            self._failures.popitem(last=False)

    def _remembered(self, network: str) -> tuple[int, float]:
        """How many wrong proofs there were, and when the last one was."""
        return self._failures.get(network, (0, 0.0))

    def __len__(self) -> int:
        return len(self._failures)


def network_of(host: str) -> str:
    """The network of an address: itself, or the /64 of an IPv6 one. Text that is none stays."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 128 - _IPV6_HOST_BITS), strict=False))
    return str(address)
