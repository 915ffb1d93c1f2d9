"""Settings of this process: core files, the collector, descriptors, memory."""

import contextlib
import gc
import resource
from typing import Final

_ALLOCATIONS_BETWEEN_COLLECTIONS: Final = 20_000
_M_ARENA_MAX: Final = -8
"""As in glibc's malloc.h, see mallopt(3)."""
_ARENAS: Final = 2


def keep_out_of_core_files() -> None:
    """Have no core file written in a crash: secrets in memory must not end up on a disk."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def collect_seldom() -> None:
    """Have the collector of reference cycles run seldom.

    Each file takes a few hundred objects, hardly any of them in a cycle, and by
    default it would run every few hundred to few thousand. What is there already
    stays for good, and is not looked through again.
    """
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS)


def allow_many_descriptors() -> None:
    """Raise the soft limit on open descriptors to the hard one.

    It bounds how many can connect. It is low only for programs that use
    select(2), which cannot take descriptors above 1023.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def allocate_in_few_arenas() -> None:
    """Have all threads allocate from two arenas of the C library. Call it before any starts.

    glibc gives threads arenas of their own, up to eight for each processor, and each keeps
    for good what the threads in it have used at most: after thousands of sessions that is
    12 MiB on two processors, with two arenas 1. They save waiting for each other, but
    Python's threads hardly ever allocate at once: no difference in speed can be measured.
    """
    import ctypes  # noqa: PLC0415 (only a receiver needs it)

    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_back_memory() -> None:
    """Return free memory to the system.

    glibc keeps, in an arena for several threads, what these had and freed. With
    a C library that has no malloc_trim(3) this does nothing.
    """
    import ctypes  # noqa: PLC0415 (only a receiver needs it, now and then)

    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
