"""The progress bar that a person sees on a terminal: one line, drawn again a few times a second."""

import contextlib
import os
import threading
import time
from collections import deque
from typing import Final, TextIO

from xfer.cli.output.progress_line import Shown, columns, compose
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


class Bar:
    """One bar for a whole job, drawn by a thread of its own. Any thread may call it."""

    def __init__(self, extent: Extent | None, stream: TextIO) -> None:
        """`extent` is what there is to send, None if that is not known. `stream` is a terminal."""
        self._stream = stream
        self._lock = threading.Lock()
        """Guards what follows, and the stream: nothing is written between a line and its end."""
        self._shown = Shown(
            total=extent.size if extent else None, files=extent.files if extent else None
        )
        self._began = time.monotonic()
        self._sent = 0
        self._rate = RecentRate(self._began)
        self._drawn = 0
        """Columns of the line that stands there."""
        self._closed = threading.Event()
        self._draw()
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
        with self._lock:
            self._write(f"{self._erasure()}{line}\n")
            self._drawn = 0
            self._draw()

    def close(self) -> None:
        """Take the bar away."""
        self._closed.set()
        self._thread.join()
        self._write(self._erasure())
        self._drawn = 0

    def _draw_again_and_again(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        self._shown.elapsed = now - self._began
        self._shown.rate = self._rate.update(now, self._sent)
        line = compose(self._shown, self._columns() - 1)  # in the last one, some terminals wrap
        width = columns(line)
        self._write(f"\r{line}{' ' * (min(self._drawn, self._columns() - 1) - width)}")
        self._drawn = width

    def _erasure(self) -> str:
        return f"\r{' ' * min(self._drawn, self._columns() - 1)}\r" if self._drawn else ""

    def _columns(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or _WIDTH
        return _WIDTH

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._stream.write(text)
            self._stream.flush()
