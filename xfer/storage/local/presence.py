"""Which senders have sessions open: a directory that a session made may await another's word.

Each session holds a lock on a file that its sender has in DIR/.xfer/sessions,
shared with the other sessions of that sender. Who gets it alone is the only one.
flock(2) holds across the workers of a receiver, and ends with a process that is killed.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from typing import Final

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Presence:
    """That a session of the sender `owner` is open, until `close`. Used by its thread only."""

    def __init__(self, sessions: int, owner: str) -> None:
        """In the open directory `sessions`. OSError when no descriptor is free.

        Waits while another session of this sender is `alone`.
        """
        name = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()
        self._file = os.open(name, _FLAGS, 0o600, dir_fd=sessions)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other session of this sender is open; then none begins within the block."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_alone = False
        else:
            is_alone = True
        try:
            yield is_alone
        finally:
            fcntl.flock(self._file, fcntl.LOCK_SH)  # a lock that was asked for in vain is gone

    def close(self) -> None:
        os.close(self._file)
