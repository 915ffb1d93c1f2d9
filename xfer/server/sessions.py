"""The sessions of each key, so that a new one gets what a dead one still holds.

A sender whose machine lost its power, or its address, ends no connection: the
receiver waits for it until the timeout, and the file that it was sending is locked
for as long. When the same sender comes back for that file, the old session is
ended, if it has been silent for SILENT_SECONDS: a sender that lives says something
every second. So two that live never end each other in turn.

Of this process only: a session in another worker ends at its timeout.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Final

from xfer import logs
from xfer.logs import Peer
from xfer.names import printable
from xfer.wire.channel import Channel
from xfer.wire.keepalive import HEARTBEAT_SECONDS

log = logging.getLogger("xfer.receiver")

SILENT_SECONDS: Final = 3 * HEARTBEAT_SECONDS
_ENDING_SECONDS: Final = 5.0
"""A session that was aborted has so long to store what had arrived whole, and to let go."""


class OpenSession:
    """One session of a key, as others of the same key see it."""

    def __init__(self, sessions: "OpenSessions", peer: Peer, channel: Channel) -> None:
        self.peer = peer
        self.channel = channel
        self._sessions = sessions
        # Replaced whole by the session's own thread, when it begins and when it has ended; any
        # thread of the same key may call it.
        self._holds: Callable[[str], bool] = _nothing

    def attach(self, holds: Callable[[str], bool]) -> None:
        """From here on, `holds` says of a name whether the session has its partial."""
        self._holds = holds

    def detach(self) -> None:
        """The session has ended. Referring to it would be a circle, which is freed late."""
        self._holds = _nothing

    def holds(self, name: str) -> bool:
        """Whether the session has the partial of this name."""
        return self._holds(name)

    def take_over(self, name: str) -> bool:
        """End the session that holds the partial of `name`, if it is silent; whether it let go.

        Only one with the same key. Waits for its end, up to 5 seconds.
        """
        return self._sessions.end_silent(self, name)


class OpenSessions:
    """The sessions that are open. Any thread may call anything."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        """Guards the sessions; notified when one has ended."""
        self._sessions: set[OpenSession] = set()

    @contextlib.contextmanager
    def opened(self, peer: Peer, channel: Channel) -> Iterator[OpenSession]:
        """A session of the key that `peer` has proved. When the block ends, it holds nothing."""
        session = OpenSession(self, peer, channel)
        with self._changed:
            self._sessions.add(session)
        try:
            yield session
        finally:
            session.detach()
            with self._changed:
                self._sessions.discard(session)
                self._changed.notify_all()

    def end_silent(self, newer: OpenSession, name: str) -> bool:
        """As `OpenSession.take_over`."""
        with self._changed:
            for session in self._sessions:
                if _may_be_ended(session, newer) and session.holds(name):
                    log.warning(
                        "%s %s: silent, and its sender is back: this session ends",
                        session.peer, printable(name),
                        extra=logs.about("taken_over", session.peer, file_name=name),
                    )  # fmt: skip
                    session.channel.abort()
                    is_over = functools.partial(self._is_over, session)
                    return self._changed.wait_for(is_over, _ENDING_SECONDS)
            return False

    def _is_over(self, session: OpenSession) -> bool:
        return session not in self._sessions


def _may_be_ended(session: OpenSession, newer: OpenSession) -> bool:
    return (
        session is not newer
        and session.peer.key_id == newer.peer.key_id
        and session.channel.silence >= SILENT_SECONDS
    )


def _nothing(_: str) -> bool:
    return False
