"""Who is in, over all workers of one receiver: counted in memory that they share.

`max_connections` holds for all of them together, and so does what a network has
to wait after wrong proofs: wherever it comes back, it is known. Strangers are
divided: each worker has its share of `max_unauthenticated`, since one of its own
strangers is all that it can send away to make room.

What a worker that was killed had counted is forgotten when another takes its
number.
"""

import struct
import time
from typing import Final

from msgspec.structs import replace

from xfer.errors import UsageError
from xfer.server.admission import Admission, ConnectionLimits, Penalties, SenderSlots
from xfer.system.shared_memory import SharedMemory

_COUNT: Final = struct.Struct("=q")
_FAILURES: Final = struct.Struct("=qqd")
"""The hash of a network, how many there were, and when the last one was."""
_REMEMBERED: Final = 4096
_NEIGHBOURS: Final = 8
"""Where a network may be: from the place that its hash gives, so many."""


class SharedAdmission:
    """For so many workers. Make it before they are forked.

    UsageError when there are fewer places than workers.
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
        """For the worker with this number; whoever had it before is gone."""
        with self._memory.locked():
            _COUNT.pack_into(self._counts, number * _COUNT.size, 0)
        share = (self._limits.max_unauthenticated + number) // self._workers
        return Admission(
            replace(self._limits, max_unauthenticated=share),
            slots=SharedSenderSlots(self, number),
            penalties=SharedPenalties(self),
        )

    # Senders

    def acquire_slot(self, number: int) -> bool:
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

    # Failures, by network

    def failures(self, network: str) -> tuple[int, float]:
        with self._memory.locked():
            known, count, last = _FAILURES.unpack_from(self._failures, self._find(network))
        return (count, last) if known == hash(network) else (0, 0.0)

    def note_failures(self, network: str, count: int, last: float) -> None:
        with self._memory.locked():
            offset = self._find(network)
            _FAILURES.pack_into(self._failures, offset, hash(network), count, last)

    def _find(self, network: str) -> int:
        """Where it is, or may be put: in an empty place, or in that of the oldest around there.

        Forked processes have the same seed, and so the same hashes.
        """
        wanted = hash(network)
        offsets = [(wanted + step) % _REMEMBERED * _FAILURES.size for step in range(_NEIGHBOURS)]
        found = [_FAILURES.unpack_from(self._failures, offset) for offset in offsets]
        best = min(range(_NEIGHBOURS), key=lambda n: (found[n][0] != wanted, found[n][2]))
        return offsets[best]


class SharedSenderSlots(SenderSlots):
    """For senders of one worker, out of those of all workers."""

    def __init__(self, shared: SharedAdmission, number: int) -> None:
        self._shared = shared
        self._number = number

    def acquire(self) -> bool:
        return self._shared.acquire_slot(self._number)

    def release(self) -> None:
        self._shared.release_slot(self._number)


class SharedPenalties(Penalties):
    """Which networks have to wait, whichever worker they have failed at."""

    def __init__(self, shared: SharedAdmission) -> None:
        super().__init__(time.monotonic)  # one clock for all processes
        self._shared = shared

    def forgive(self, network: str) -> None:
        self._shared.note_failures(network, 0, 0.0)

    def _remember(self, network: str, count: int, last: float) -> None:
        self._shared.note_failures(network, count, last)

    def _remembered(self, network: str) -> tuple[int, float]:
        return self._shared.failures(network)
