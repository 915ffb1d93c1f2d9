"""Settings of this process, and memory that it gives back."""

import contextlib
import gc
import resource
from typing import Final

_ALLOCATIONS_BETWEEN_COLLECTIONS: Final = 20_000


def keep_out_of_core_files() -> None:
    """What this process knows must not end up on a disk when it crashes."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def collect_seldom() -> None:
    """Each file makes a few hundred objects, hardly any of them in a circle."""
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS)


def allow_many_descriptors() -> None:
    """Descriptors bound how many can connect; the soft limit is for programs that select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def give_back_memory() -> None:
    """Return what is free to the system: each of glibc's arenas keeps what its threads had, else.

    A C library that has no malloc_trim(3) does as it likes.
    """
    import ctypes  # noqa: PLC0415 (a receiver's, now and then: no sender waits for it)

    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
