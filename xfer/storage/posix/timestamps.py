"""Which times a file system can hold: on many, not all that a sender's file system has.

ext3 holds whole seconds, FAT every second one, and nearly all end somewhere. A file
that was given a time has another one then, and is the same file all the same.
"""

import contextlib
import os
import time
from typing import Final

from msgspec import Struct

_SECOND: Final = 10**9
_STEPS: Final = (1, 100, 1000, 10**6, 10**7, _SECOND, 2 * _SECOND)
"""Nanoseconds; NTFS has 100, exFAT 10 million."""
_PROBE: Final = 1_234_567_891 * _SECOND + 987_654_321
"""Odd in every step."""
_FAR: Final = 2**63 - 1
"""Nanoseconds, as far as a time on the wire can be from 1970."""


class Timestamps(Struct, frozen=True):
    """The times, in nanoseconds since 1970, that a file system can hold."""

    step: int = 1
    earliest: int = -_FAR
    latest: int = _FAR

    def held(self, mtime_ns: int | None) -> int | None:
        """The time that a file has after it was given this one; None for none."""
        if mtime_ns is None:
            return None
        return min(max(mtime_ns // self.step * self.step, self.earliest), self.latest)


def timestamps_of(descriptor: int) -> Timestamps:
    """Found out with an open file, whose time is changed for that: now, in the end.

    Where that can't be told, the file system is taken to hold every time.
    """
    found = Timestamps()
    with contextlib.suppress(OSError, OverflowError):
        probed = _held(descriptor, _PROBE)
        step = next((step for step in _STEPS if _PROBE // step * step == probed), 1)
        earliest, latest = _held(descriptor, -_FAR), _held(descriptor, _FAR)
        found = Timestamps(step, earliest, latest)
    with contextlib.suppress(OSError):
        os.utime(descriptor, ns=(time.time_ns(), time.time_ns()))
    return found


def _held(descriptor: int, mtime_ns: int) -> int:
    os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    return os.fstat(descriptor).st_mtime_ns
