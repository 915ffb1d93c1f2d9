"""What interrupted sessions left in DIR/.xfer/partials/, and how much of it there may be.

An offer looks its own files up by name: what others left, or the same sender of
other files, costs it nothing. And a sender may leave so many partials and no more,
since each of them is an inode and a directory entry of the receiver's, however
few its bytes. With one too many, those that changed longest ago go: whoever left
thousands will not come back for the first of them, and to refuse the next file
instead would keep an honest sender from its work until they expire.
"""

import contextlib
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from xfer.errors import LocalError, Refused
from xfer.names import STATE_DIRECTORY
from xfer.storage.local.partials import KEYED_PREFIX, open_keyed
from xfer.storage.posix.links import remove

MOST_KEPT: Final = 10_000
"""Partials that one sender may leave."""
_LOOK_EVERY: Final = 500
"""To count them is to list them all: it is done after so many more of one sender. By that many,
for each process of the receiver, there can be more than MOST_KEPT for a while."""


class Leftovers(Struct, frozen=True):
    """How many partials a receiver that was killed left: removed, and kept to be resumed."""

    removed: int
    resumable: int


class KeptPartials:
    """The partials with a key in the open directory `partials`. Any thread may call anything.

    In use or not: what a session has open is locked, and none of these methods
    removes it.
    """

    def __init__(self, partials: int) -> None:
        self._partials = partials
        # Set once, before any thread starts.
        self._has_workers = False
        # Names that may be there: of one that is not, a lookup costs no more than time. Not
        # locked: each change and each lookup is one operation of a set of bytes, which Python
        # does in one piece.
        self._there: set[bytes] = set()
        self._counting = threading.Lock()
        """Guards `_new`: by sender, how many were kept here since they were counted last."""
        self._new: Counter[bytes] = Counter()

    def share(self) -> None:
        """Other processes make partials, too: have the file system looked at for each name."""
        self._has_workers = True

    @property
    def may_be_any(self) -> bool:
        return self._has_workers or bool(self._there)

    def has(self, name: bytes) -> bool:
        """Whether there may be a partial of this name."""
        if self._has_workers:
            return os.access(name, os.F_OK, dir_fd=self._partials, follow_symlinks=False)
        return name in self._there

    def add(self, name: bytes) -> None:
        """A session has opened the partial of this name."""
        self._there.add(name)

    def remove(self, name: bytes) -> None:
        """A session has removed it."""
        self._there.discard(name)

    def note(self, name: bytes) -> None:
        """A session leaves the partial of this name; if its sender left too many, old ones go."""
        self.add(name)  # another session may have removed one of this name before
        sender = _sender_of(name)
        with self._counting:
            self._new[sender] += 1
            is_due = self._new[sender] >= _LOOK_EVERY
            if is_due:
                del self._new[sender]
        if is_due:
            with contextlib.suppress(OSError):  # out of descriptors, for example: `tidy` does it
                self._remove_oldest(list(self._names(sender)))

    def tidy(self, seconds: float) -> None:
        """Remove what has not changed for so long, and what senders left beyond MOST_KEPT.

        OSError when partials/ can't be read.
        """
        by_sender = defaultdict(list)
        for name in self._names():
            if time.time() - self._changed_at(name) >= seconds:
                self._discard(name)
            else:
                by_sender[_sender_of(name)].append(name)
        for names in by_sender.values():
            self._remove_oldest(names)

    def remove_leftovers(self, seconds: float) -> Leftovers:
        """At a start, `tidy`, and remove what a receiver that was killed left without a key.

        LocalError when something can't be removed.
        """
        try:
            self.tidy(seconds)
            return self._remove_unkeyed()
        except OSError as error:
            reason = f"cannot clean up {STATE_DIRECTORY}/partials: {error.strerror}"
            raise LocalError(reason) from error

    def _remove_unkeyed(self) -> Leftovers:
        removed = resumable = 0
        for name in os.listdir(self._partials):
            # One with a second link is a stored file: the receiver was killed after it was
            # linked to its name, and before its old name was removed.
            links = os.stat(name, dir_fd=self._partials, follow_symlinks=False).st_nlink
            if os.fsencode(name).startswith(KEYED_PREFIX) and links == 1:
                self.add(os.fsencode(name))
                resumable += 1
            else:
                remove(os.fsencode(name), self._partials)
                removed += 1
        return Leftovers(removed, resumable)

    def _names(self, prefix: bytes = KEYED_PREFIX) -> Iterator[bytes]:
        return filter(lambda name: name.startswith(prefix), _listed(self._partials))

    def _changed_at(self, name: bytes) -> float:
        """When it changed last; its mtime may be what the sender set. Never, if it is gone."""
        try:
            return os.stat(name, dir_fd=self._partials, follow_symlinks=False).st_ctime
        except OSError:
            return float("inf")

    def _remove_oldest(self, names: list[bytes]) -> None:
        """Remove those that changed longest ago, as many as there are more than MOST_KEPT."""
        if len(names) > MOST_KEPT:
            for name in sorted(names, key=self._changed_at)[: len(names) - MOST_KEPT]:
                self._discard(name)

    def _discard(self, name: bytes) -> None:
        with contextlib.suppress(OSError, Refused):  # gone, or in use
            if partial := open_keyed(self._partials, name, create=False):
                partial.discard()
            self.remove(name)


def _listed(directory: int) -> Iterable[bytes]:
    return map(os.fsencode, os.listdir(directory))


def _sender_of(name: bytes) -> bytes:
    """The beginning that the names of all partials of one sender have."""
    return name.rpartition(b"-")[0] + b"-"
