"""Long work during which the peer must not give up: it is told that this side is alive."""

from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Final, TypeVar

from xfer.digests import Beside

Outcome = TypeVar("Outcome")

SIGN_SECONDS: Final = 1.0
"""How often a `working` message goes out; far below any sensible timeout."""


@dataclass(slots=True)
class Progress:
    """How far some work is: `done` of `size` bytes of `name`."""

    name: str
    size: int = 0
    done: int = 0


class Patience:
    """Does long work in the helper thread while the caller's own gives signs of life."""

    def __init__(self, beside: Beside, sign: Callable[[Progress], None]) -> None:
        """`sign` is called once in a while, with how far the work is."""
        self._beside = beside
        self._sign = sign

    def during(self, progress: Progress, work: Callable[[Progress], Outcome]) -> Outcome:
        """What `work(progress)` returns or raises. Raises ConnectionLost if the peer went away.

        Either way, the work has ended when this returns.
        """
        future = self._beside.submit(work, progress)
        try:
            while not wait([future], SIGN_SECONDS).done:
                self._sign(progress)
        finally:
            wait([future])
        return future.result()
