"""Tells the sender that the receiver is alive while it works for long without an answer."""

import time
from typing import Final

from xfer.wire.channel import Channel
from xfer.wire.keepalive import HEARTBEAT_SECONDS, Progress
from xfer.wire.messages import Working

_ALIVE: Final = Progress("")


class HeartbeatSender:
    """Sends `working` messages, one in half of `HEARTBEAT_SECONDS` at most.

    Apart from the session, so that what sends heartbeats (rehasher, committer)
    does not refer to the session that refers to it: Python frees such a circle
    late, and with it a session's buffers.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._is_enabled = False
        # Used by the session's thread, and by the committer's background thread only while
        # Watchdog.watch keeps the session's busy: never by both at once, so without a lock.
        self._sent_at = time.monotonic()

    def enable(self) -> None:
        """The sender knows `working` messages. Without this, none is sent."""
        self._is_enabled = True

    def send(self, progress: Progress = _ALIVE) -> None:
        """Say how far some work is, unless that was said just now. Raises ConnectionLost."""
        now = time.monotonic()
        if self._is_enabled and now - self._sent_at >= HEARTBEAT_SECONDS / 2:
            self._sent_at = now
            self._channel.send(Working(progress.name, progress.done, progress.size))
            self._channel.flush()
