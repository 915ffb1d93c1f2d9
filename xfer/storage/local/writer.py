"""How one session gets files into a local store, and sees what is there."""

import contextlib
import errno
import os
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from xfer.errors import Code, Refused
from xfer.names import from_bytes, to_bytes
from xfer.outcomes import Outcome
from xfer.storage.contract import (
    CommitSteps,
    IfExists,
    Item,
    Metadata,
    NewFile,
    Partial,
    StoredFile,
    TakeOver,
)
from xfer.storage.local.commit import Commit
from xfer.storage.local.layout import Layout
from xfer.storage.local.partials import LocalPartial, create_unkeyed, key_for, open_keyed
from xfer.storage.local.presence import Presence
from xfer.storage.local.recording import LocalRecorder
from xfer.storage.local.stored import MOST_DIRECTORIES, StoredNames
from xfer.storage.name_limit import NameCount
from xfer.storage.os_errors import refusal
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.files import OpenFile
from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.tree import give_default_mode
from xfer.storage.quota import Account, Reservation
from xfer.storage.recording import Confirmed, Run

_LARGE: Final = 1024 * 1024
"""Bytes of a file for which free space is looked up first; a smaller one is written as fast."""


class Sender(Struct, frozen=True):
    """Whose session it is: the key id, what it may store, how it gets a partial that is busy.

    `host` is the machine that is to be remembered with each file, empty for none.
    """

    owner: str
    account: Account
    take_over: TakeOver
    host: bytes = b""


class LocalStoreWriter:
    """A session's way into a local store (`contract.StoreWriter`).

    A sender with a directory of its own sees only what is below that: its names
    get `_below` in front of them on the way in.
    """

    def __init__(
        self,
        sender: Sender,
        layout: Layout,
        flusher: Flusher,
        if_exists: IfExists | None,
    ) -> None:
        """`if_exists` is None for a sender that only adds. OSError when no descriptor is free."""
        self.durable = flusher.durable and not layout.file_system.doubt
        self._sender = sender
        self._layout = layout
        self._flusher = flusher
        self._if_exists = if_exists
        self._account = account = sender.account
        self._presence = Presence(layout.sessions, sender.owner)
        self._awaiting: set[bytes] = set()
        self._below = from_bytes(account.directory) + "/" if account.directory else ""
        self._stored = StoredNames(layout.files, layout.flushed, self._below)
        self._recorder: LocalRecorder | None = None
        self._names = NameCount(account.limits.max_files)

    def require(self, name: str, size: int, have: int = 0) -> None:  # noqa: ARG002
        self._account.require(size, have)

    def count(self, name: str) -> None:
        self._names.add(name)

    def create_partial(self, name: str | None = None, size: int | None = None) -> Partial:
        try:
            if size is not None and size >= _LARGE:
                _require_room(self._layout.partials, size)
            partial = self._open_partial(name, create=True)
        except OSError as error:
            raise refusal(error) from error
        if partial is None:
            raise Refused("its partial went away", code=Code.BUSY)
        try:
            if partial.size:
                partial.truncate(0)
            if size is not None:
                partial.reserve(size)
        except Refused:
            partial.discard()
            raise
        return partial

    def find_partial(self, name: str) -> Partial | None:
        try:
            return self._open_partial(name, create=False)
        except OSError as error:
            raise refusal(error) from error

    def _open_partial(self, name: str | None, *, create: bool) -> LocalPartial | None:
        partials = self._layout.partials
        if name is None:
            partial = create_unkeyed(partials)
        else:
            found = self._open_keyed(name, create=create)
            if found is None:
                return None
            partial = found
            partial.index = self._layout.kept
            partial.index.add(partial.name)
        partial.host = self._sender.host
        partial.is_recorded = self._recorder is not None
        partial.charge_to(self._account)
        return partial

    def _open_keyed(self, name: str, *, create: bool) -> LocalPartial | None:
        key = self._key_for(name)
        try:
            return open_keyed(self._layout.partials, key, create=create)
        except Refused:
            if not self._sender.take_over(name):
                raise
        return open_keyed(self._layout.partials, key, create=create)

    def _key_for(self, name: str) -> bytes:
        return key_for(self._sender.owner, name, self._account.directory)

    def kept(self, files: Sequence[str]) -> set[str]:
        kept = self._layout.kept
        if not kept.may_be_any:
            return set()
        return {name for name in files if kept.has(self._key_for(name))}

    def statuses(self, files: Sequence[str]) -> list[StoredFile | None]:
        return self._stored.statuses(files) if self._if_exists else [None] * len(files)

    def flush_stored(self, files: Sequence[str]) -> set[str]:
        return self._stored.flush(files)

    def absent(self, directories: Sequence[str]) -> list[str]:
        return self._stored.absent(directories) if self._if_exists else []

    def open_stored(self, name: str) -> OpenFile | None:
        return self._stored.open(name) if self._if_exists else None

    def held_time(self, mtime_ns: int | None) -> int | None:
        return self._layout.timestamps.held(mtime_ns)

    def set_metadata(self, name: str, metadata: Metadata) -> bool:
        return self._stored.set_metadata(name, metadata)

    def commit(self, items: Sequence[Item]) -> CommitSteps:
        placed = items
        if self._below:
            placed = [replace(item, name=self._below + item.name) for item in items]
        directories = Directories(
            self._layout.files, base=self._account.directory, awaiting=self._awaiting
        )
        commit = Commit(self._layout, self._if_exists, self._flusher, directories, placed)
        if self._account.has_limits:
            return (yield from self._within_limits(commit, placed))
        return (yield from commit.run())

    def _within_limits(self, commit: Commit, placed: Sequence[Item]) -> CommitSteps:
        """Run a commit, and count what it stores in place of what was reserved for it."""
        reservations = [_reservation_of(item) for item in placed]
        stored = [0 for _ in placed]
        try:
            outcomes = yield from commit.run()
            ended = zip(placed, outcomes, commit.freed, strict=True)
            for number, (item, outcome, freed) in enumerate(ended):
                if outcome in (Outcome.STORED, Outcome.VERSIONED):
                    stored[number] = _size_of(item) - freed
        finally:
            for item, reservation, size in zip(placed, reservations, stored, strict=True):
                self._account.note_stored(reservation, to_bytes(item.name), size)
        return outcomes

    def begin_run(self, run: Run) -> None:
        recorder = LocalRecorder(self._layout.state, self._sender.owner, self._below)
        recorder.begin(run, self._if_exists)
        if self._recorder:
            self._recorder.close()
        self._recorder = recorder

    def record(self, confirmed: Sequence[Confirmed]) -> None:
        if self._recorder:
            self._recorder.record(confirmed)

    def finish(self) -> None:
        with (
            contextlib.suppress(OSError),
            self._presence.alone() as is_alone,
            Directories(self._layout.files, create=False) as directories,
        ):
            for path in sorted(self._awaiting, reverse=True) if is_alone else ():
                directories.close_beyond(MOST_DIRECTORIES)
                with contextlib.suppress(OSError, Refused):  # gone, or somebody else's by now
                    give_default_mode(directories.open(path))

    def close(self) -> None:
        if self._recorder:
            self._recorder.close()
        self._flusher.close()
        self._presence.close()


def _reservation_of(item: Item) -> Reservation | None:
    """What the item's partial has reserved. It is released after the commit: until its bytes count
    as stored, they count as reserved."""
    match item:
        case NewFile(_, LocalPartial() as partial):
            return partial.hand_over_reservation()
    return None


def _size_of(item: Item) -> int:
    return item.partial.size if isinstance(item, NewFile) else 0


def _require_room(partials: int, size: int) -> None:
    """Fail now, with ENOSPC, and not after most of the file has been sent."""
    status = os.fstatvfs(partials)
    if size > status.f_bavail * status.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
