"""The machines that have sent into a store, in an extended attribute of its DIR/.xfer.

    getfattr -n user.xfer.hosts DIR/.xfer

Only where there are two of them is it worth its time, 2 µs a file, to remember
with each file which one wrote it (see `posix.written_by`). For what came before
the second one, it is enough to know when that was: a file that changed last while
one machine alone was sending is taken for that machine's.

    getfattr -n user.xfer.alone DIR/.xfer      since when, until when: nanoseconds since 1970

The list is bounded, and both may be removed at any time: they grow again.
"""

import os
from typing import Final

from msgspec import Struct

_ATTRIBUTE: Final = b"user.xfer.hosts"
_ALONE: Final = b"user.xfer.alone"
_MOST: Final = 1024
"""Bytes. With so many machines it does not matter any more whether one is new."""


class LoneHost(Struct, frozen=True):
    """The first machine that sent, and when it was the only one; nobody, in no time."""

    host: bytes = b""
    since: int = 0
    until: int = 0

    def wrote(self, changed_ns: int) -> bool:
        """Whether what changed last at that time is taken for its own."""
        return self.since <= changed_ns < self.until


def lone_host(state: int) -> LoneHost:
    """Of the store of this state directory, once there is a second machine."""
    try:
        since, until = os.getxattr(state, _ALONE).split()
        first, _, others = os.getxattr(state, _ATTRIBUTE).partition(b"\n")
        return LoneHost(first, int(since), int(until)) if others else LoneHost()
    except (OSError, ValueError):  # none, as an older receiver leaves it, or somebody else's
        return LoneHost()


def note_host(state: int, host: bytes) -> bool:
    """Note that a machine sends into the store of this state directory.

    Whether others do, too; False where the file system keeps no such attributes. Any
    thread or process may call it: of two that do at once, one may have to come again.
    """
    line = host.replace(b"\n", b" ")
    try:
        listed = os.getxattr(state, _ATTRIBUTE)
    except OSError:
        listed = b""
    known = listed.splitlines()
    if line not in known and len(listed) < _MOST:
        try:
            os.setxattr(state, _ATTRIBUTE, listed + line + b"\n")
            if len(known) < 2:  # it is the first, or the second
                _note_time(state, is_first=not known)
        except OSError:
            return False
    return any(other != line for other in known)


def _note_time(state: int, *, is_first: bool) -> None:
    """When the first machine came, and when it was alone no more. OSError if it can't be kept."""
    now = os.fstat(state).st_ctime_ns  # by the clock of the file system: it was just changed
    if is_first:
        os.setxattr(state, _ALONE, b"%d" % now)
        return
    try:
        since = os.getxattr(state, _ALONE).split()[0]
    except (OSError, IndexError):
        return  # an older receiver did not note it
    os.setxattr(state, _ALONE, b"%s %d" % (since, now))
