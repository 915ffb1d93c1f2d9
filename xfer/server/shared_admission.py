"""Admission for several workers: counted in memory that they share.

`max_connections` holds for all workers together, and so do penalties for wrong
proofs: a network waits at every worker. `max_unauthenticated` is divided, since
a worker can abort only connections of its own to make room.

What a killed worker had counted is forgotten when another one takes its number.
Every call comes with the `Admission`'s lock of its worker held, so the shared
memory's lock, which is between processes, is enough.
"""

import struct
import time
from typing import Final

from msgspec.structs import replace

from xfer.errors import UsageError
from xfer.server.admission import Admission, ConnectionLimits, SenderSlots
from xfer.server.penalties import Penalties
from xfer.system.shared_memory import SharedMemory

_COUNT: Final = struct.Struct("=q")
_FAILURES: Final = struct.Struct("=qqd")
"""The hash of a network, its wrong proofs, and when the last one was (monotonic seconds)."""
_REMEMBERED: Final = 4096
_NEIGHBOURS: Final = 8
"""Cells that a network may be in, from the one that its hash gives."""


class SharedAdmission:
    """The counts of so many workers. Make it before they are forked.

    UsageError when `limits` allow fewer connections than there are workers.
    """

    def __init__(self, limits: ConnectionLimits, workers: int) -> None:
        for option, most in (
            ("--max-unauthenticated", limits.max_unauthenticated),
            ("--max-connections", limits.max_connections),
        ):
            if most < workers:
                raise UsageError(f"{option} {most} is too few for {workers} workers")
        self._limits = limits
        self._workers = workers
        self._memory = SharedMemory(workers * _COUNT.size + _REMEMBERED * _FAILURES.size)
        self._counts = self._memory.view[: workers * _COUNT.size]
        self._failures = self._memory.view[workers * _COUNT.size :]

    def admission(self, number: int) -> Admission:
        """The admission of a worker. What the one before it had counted is cleared."""
        with self._memory.locked():
            _COUNT.pack_into(self._counts, number * _COUNT.size, 0)
        share = (self._limits.max_unauthenticated + number) // self._workers
        return Admission(
            replace(self._limits, max_unauthenticated=share),
            slots=SharedSenderSlots(self, number),
            penalties=SharedPenalties(self),
        )

    # Senders: a count for each worker, so that a killed one's can be cleared

    def acquire_slot(self, number: int) -> bool:
        """Take a slot for a worker; False when all workers together have none left."""
        with self._memory.locked():
            taken = sum(count for (count,) in _COUNT.iter_unpack(self._counts))
            if taken >= self._limits.max_connections:
                return False
            self._change(number, 1)
            return True

    def release_slot(self, number: int) -> None:
        with self._memory.locked():
            self._change(number, -1)

    def _change(self, number: int, by: int) -> None:
        offset = number * _COUNT.size
        (count,) = _COUNT.unpack_from(self._counts, offset)
        _COUNT.pack_into(self._counts, offset, count + by)

    # Wrong proofs, by network: a hash table of a fixed size

    def failures(self, network: str) -> tuple[int, float]:
        """How many wrong proofs there were, and when the last one was."""
        with self._memory.locked():
            known, count, last = _FAILURES.unpack_from(self._failures, self._find(network))
        return (count, last) if known == hash(network) else (0, 0.0)

    def note_failures(self, network: str, count: int, last: float) -> None:
        with self._memory.locked():
            offset = self._find(network)
            _FAILURES.pack_into(self._failures, offset, hash(network), count, last)

    def _find(self, network: str) -> int:
        """The offset of its cell, else of an empty one, else of the oldest of its neighbours.

        Forked processes have one seed, so `hash` is the same in all of them.
        """
        wanted = hash(network)
        offsets = [(wanted + step) % _REMEMBERED * _FAILURES.size for step in range(_NEIGHBOURS)]
        found = [_FAILURES.unpack_from(self._failures, offset) for offset in offsets]
        best = min(range(_NEIGHBOURS), key=lambda n: (found[n][0] != wanted, found[n][2]))
        return offsets[best]


class SharedSenderSlots(SenderSlots):
    """The slots of one worker, out of those of all workers."""

    def __init__(self, shared: SharedAdmission, number: int) -> None:
        self._shared = shared
        self._number = number

    def acquire(self) -> bool:
        return self._shared.acquire_slot(self._number)

    def release(self) -> None:
        self._shared.release_slot(self._number)


class SharedPenalties(Penalties):
    """Penalties that are known to all workers, whichever saw the wrong proofs."""

    def __init__(self, shared: SharedAdmission) -> None:
        super().__init__(time.monotonic)  # one clock for all processes
        self._shared = shared

    def forgive(self, network: str) -> None:
        self._shared.note_failures(network, 0, 0.0)

    def _remember(self, network: str, count: int, last: float) -> None:
        self._shared.note_failures(network, count, last)

    def _remembered(self, network: str) -> tuple[int, float]:
        return self._shared.failures(network)
