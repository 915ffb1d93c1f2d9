"""Long work during which the peer must not give up: it is told that this side is alive."""

from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Final, TypeVar

from xfer.channel import Channel
from xfer.digests import Beside
from xfer.messages import Working

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
    """Does long work in the helper thread while the caller's own keeps the peer patient.

    `tell` hears of the work's progress as often as the peer does.
    """

    def __init__(
        self, channel: Channel, beside: Beside, tell: Callable[[Progress], None] | None = None
    ) -> None:
        self._channel = channel
        self._beside = beside
        self._tell = tell

    def during(self, progress: Progress, work: Callable[[Progress], Outcome]) -> Outcome:
        """What `work(progress)` returns or raises. Raises ConnectionLost if the peer went away.

        Either way, the work has ended when this returns.
        """
        future = self._beside.submit(work, progress)
        try:
            while not wait([future], SIGN_SECONDS).done:
                self._channel.send(Working(progress.name, progress.done, progress.size))
                self._channel.flush()
                if self._tell:
                    self._tell(progress)
        finally:
            wait([future])
        return future.result()
