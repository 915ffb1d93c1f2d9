"""The progress bar that a person sees on a terminal: one line, drawn again a few times a second."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

from tqdm import tqdm

from xfer.cli.output.progress_line import Shown, compose
from xfer.names import printable
from xfer.source.tree import Extent

_TICK_SECONDS: Final = 0.2
_RATE_SECONDS: Final = 5.0
_WIDTH: Final = 80
"""Columns, where the terminal does not say."""


class RecentRate:
    """Bytes a second over the last seconds. Not thread-safe."""

    def __init__(self, now: float) -> None:
        self._samples = deque([(now, 0)])

    def update(self, now: float, sent: int) -> float:
        """The rate, when so many bytes were sent in all by `now` (seconds)."""
        while len(self._samples) > 1 and self._samples[1][0] <= now - _RATE_SECONDS:
            self._samples.popleft()
        began, before = self._samples[0]
        self._samples.append((now, sent))
        return (sent - before) / (now - began) if now > began else 0.0


class _Line(tqdm):  # type: ignore[type-arg]  # generic for the type checker only
    """tqdm draws it, at most so often, and takes it away; what it says is `line(columns)`."""

    def __init__(self, line: Callable[[int], str], stream: TextIO) -> None:
        self._line = line
        super().__init__(file=stream, leave=False, mininterval=_TICK_SECONDS, miniters=0)

    def __str__(self) -> str:
        return self._line(self._columns() - 1)  # in the last one, some terminals wrap

    def _columns(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return os.get_terminal_size(self.fp.fileno()).columns or _WIDTH
        return _WIDTH


class Bar:
    """One bar for a whole job. Any thread may call it.

    A thread of its own has it drawn again, since rate and time change while nothing
    is sent. tqdm has a lock for the terminal, and takes ours within it, never the
    other way round.
    """

    def __init__(self, extent: Extent | None, stream: TextIO) -> None:
        """`extent` is what there is to send, None if that is not known. `stream` is a terminal."""
        self._lock = threading.Lock()
        """Guards what follows, up to the line."""
        self._shown = Shown(
            total=extent.size if extent else None, files=extent.files if extent else None
        )
        self._began = time.monotonic()
        self._sent = 0
        self._rate = RecentRate(self._began)
        self._line = _Line(self._composed, stream)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._draw_again_and_again, daemon=True)
        self._thread.start()

    def sending(self, name: str) -> None:
        """Show this name from the next time on that the bar is drawn."""
        with self._lock:
            self._shown.doing, self._shown.name = "", printable(name)

    def note(self, doing: str, name: str = "") -> None:
        """Show what is being done, beside sending, and to what."""
        with self._lock:
            self._shown.doing, self._shown.name = doing, printable(name)

    def sent(self, size: int) -> None:
        """So many more bytes were sent."""
        with self._lock:
            self._sent += size
            self._shown.done += size

    def skipped(self, size: int) -> None:
        """So many bytes are with the receiver already: no part of the rate."""
        with self._lock:
            self._shown.done += size

    def file_done(self) -> None:
        with self._lock:
            self._shown.files_done += 1

    def restart(self) -> None:
        """Begin at 0 for another attempt: it counts what is there already as done, too."""
        with self._lock:
            self._shown.done = self._sent = 0
            self._rate = RecentRate(time.monotonic())

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._line.write(line, file=self._line.fp)

    def close(self) -> None:
        """Take the bar away."""
        self._closed.set()
        self._thread.join()
        with contextlib.suppress(OSError, ValueError):
            self._line.close()

    def _draw_again_and_again(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            with contextlib.suppress(OSError, ValueError):
                self._line.refresh()

    def _composed(self, width: int) -> str:
        now = time.monotonic()
        with self._lock:
            self._shown.elapsed = now - self._began
            self._shown.rate = self._rate.update(now, self._sent)
            return compose(self._shown, width)
