"""When there is another attempt at a job, and when it is given up.

A receiver that has let this side in once exists, and so do the secret and the way
to it: it is worth waiting for, as TCP itself waits for a line that is dead, for a
quarter of an hour. A host that never answered may just as well be a typing error.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from xfer.config.defaults import (
    RETRY_REACHED_SECONDS,
    RETRY_SECONDS,
    RETRY_TERMINAL_SECONDS,
)
from xfer.errors import Cancelled, XferError
from xfer.sending.observer import Observer
from xfer.wire.cancel import CancelToken

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0


class RetryFor(Struct, frozen=True):
    """Seconds without an attempt that got further, after which a job is given up.

    `reached` counts once the receiver has let this side in, `unreached` until then.
    """

    unreached: float = RETRY_SECONDS
    reached: float = RETRY_REACHED_SECONDS


def retry_times(seconds: float | None, *, on_terminal: bool = False) -> RetryFor:
    """For so many seconds in either case; by default, less where a person waits for it."""
    if seconds is not None:
        return RetryFor(seconds, seconds)
    return RetryFor(RETRY_TERMINAL_SECONDS if on_terminal else RETRY_SECONDS)


class Retries:
    """The pauses between the attempts of one job. The last attempt comes at the very end."""

    def __init__(self, limits: RetryFor) -> None:
        self._limits = limits
        self._pauses = _pauses()
        self._seconds = limits.unreached
        self._gives_up_at: float | None = None
        self._is_reached = False
        """Set by the thread of any connection, read between attempts when there is none."""

    def reached(self) -> None:
        """A connection was opened, and both sides have proved themselves. Any thread may call."""
        self._is_reached = True

    def next_pause(self, *, made_progress: bool) -> float | None:
        """Seconds until the next attempt, after one has failed; None when there is no other."""
        seconds = self._limits.reached if self._is_reached else self._limits.unreached
        now = time.monotonic()
        if self._gives_up_at is None or made_progress or seconds != self._seconds:
            self._gives_up_at, self._seconds = now + seconds, seconds
            self._pauses = _pauses()
        left = self._gives_up_at - now
        return min(next(self._pauses), left) if left > 0 else None

    @property
    def seconds_left(self) -> float:
        """Until the last attempt, if none gets any further."""
        return 0.0 if self._gives_up_at is None else self._gives_up_at - time.monotonic()


class Attempts:
    """Tries something until it goes well, or is not worth trying again."""

    def __init__(self, retry_for: RetryFor, observer: Observer, cancel: CancelToken | None) -> None:
        self._retries = Retries(retry_for)
        self._observer = observer
        self._sleep: Callable[[float], object] = cancel.wait if cancel else time.sleep

    def reached(self) -> None:
        """As `Retries.reached`."""
        self._retries.reached()

    def run(
        self,
        attempt: Callable[[], XferError | None],
        made_progress: Callable[[], bool] = lambda: False,
        may_repeat: Callable[[], bool] = lambda: True,
    ) -> XferError | None:
        """Call `attempt`, which returns why it is to be tried again; what the last one returned."""
        while error := attempt():
            if isinstance(error, Cancelled):
                break
            pause = self._retries.next_pause(made_progress=made_progress())
            if not error.retryable or pause is None or not may_repeat():
                break
            self._observer.pausing(error, pause, self._retries.seconds_left)
            self._sleep(pause)
        return error


def _pauses() -> Iterator[float]:
    """Seconds, doubled up to a limit, and spread, so that senders do not return all at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311 (spread, not secrecy)
        pause = min(2 * pause, _LONGEST_PAUSE)
