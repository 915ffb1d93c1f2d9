"""When files changed of which the disk may not have what memory shows: DIR/.xfer/doubtful.

A write that has failed leaves its bytes in memory, where they look right; and the
failure is told once. Then only the time of their last change tells the files that
it may have hit: the name of such a file is no reason to skip it, ever, and its
content none to leave it. It is written again. The file has a line for each time:

    1790000000000000000 1790000060000000000     from and to, in nanoseconds since 1970
    1790000000000000000 -                       since a start with --no-fsync: nothing was flushed

It may be removed by somebody who has looked at the files.
"""

import contextlib
import os
import threading
from typing import Final

_FILE: Final = "doubtful"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST: Final = 100
"""Times that are told apart; with more, they are one, which takes writing more files again."""
_STILL: Final = "-"


class Doubtful:
    """Those times, of the store that `state`, its open state directory, belongs to.

    Any thread may call anything, in several processes of one receiver. What two of
    these note in the same moment is known to each, and the file may have one of it.
    """

    def __init__(self, state: int) -> None:
        """OSError when the file can't be read."""
        self._state = state
        self._saving = threading.Lock()
        """Held while the file is written: a process has one name for the new one."""
        # Replaced whole, so that no reader sees half of a change.
        self._times: list[tuple[int, int]] = []
        self.unflushed_since: int | None = None
        """The first start without flushes that no flush of everything has followed."""
        self.load()

    def __contains__(self, changed_ns: int) -> bool:
        """Whether what changed last at that time may look right in memory only."""
        return any(since <= changed_ns <= until for since, until in self._times)

    def load(self) -> None:
        """Add what the file has. OSError when it can't be read."""
        try:
            descriptor = os.open(_FILE, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._state)
        except FileNotFoundError:
            return
        with open(descriptor, encoding="ascii", errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # somebody else's line
                    since, until = line.split()
                    if until == _STILL:
                        self.unflushed_since = int(since)
                    else:
                        self._add(int(since), int(until))

    def note(self, since: int, until: int) -> None:
        """A flush has failed of what changed in this time. OSError if that can't be stored."""
        with self._saving:
            self._add(since, until)
            self.load()  # what another process has noted
            self._save()

    def note_unflushed(self, since: int) -> None:
        """From now on nothing is flushed. OSError as above."""
        if self.unflushed_since is None:
            self.unflushed_since = since
            self._save()

    def note_flushed(self) -> None:
        """Everything is. If that can't be stored, more may be written again than has to be."""
        if self.unflushed_since is not None:
            self.unflushed_since = None
            with contextlib.suppress(OSError):
                self._save()

    def _add(self, since: int, until: int) -> None:
        """Times that overlap become one."""
        apart = []
        for other in self._times:
            if other[0] <= until and since <= other[1]:
                since, until = min(since, other[0]), max(until, other[1])
            else:
                apart.append(other)
        if len(apart) >= _MOST:
            since, until = min(since, *apart[0]), max(until, *apart[-1])
            apart = []
        self._times = sorted([*apart, (since, until)])

    def _save(self) -> None:
        """For good, before anything that it is about is stored."""
        lines = [f"{since} {until}\n" for since, until in self._times]
        if self.unflushed_since is not None:
            lines.append(f"{self.unflushed_since} {_STILL}\n")
        new = f"{_FILE}.{os.getpid()}"
        try:
            descriptor = os.open(new, _FLAGS, 0o600, dir_fd=self._state)
            with open(descriptor, "w", encoding="ascii") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, _FILE, src_dir_fd=self._state, dst_dir_fd=self._state)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=self._state)
            raise
        os.fsync(self._state)
