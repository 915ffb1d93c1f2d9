"""Memory that was freed goes back to the system, which the C library leaves undone by itself."""

import ctypes
from collections.abc import Callable

_TRIM: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Return what is free: each of glibc's arenas keeps what its threads once had, else."""
    if _TRIM:
        _TRIM(0)
