"""Putting a batch under its names: the order in which nothing is lost.

    1. flush     the bytes of every file
    2. link      each name that is free, in one step; the rest only if some are taken:
    3. compare   what already has the same content is left where it is
    4. version   older content gets a second link, in versions/; flush
    5. replace   each name in one step
    6. flush     the directories, once theirs have mode and time

Whatever cuts this short, each name shows nothing, the old content or the whole
new content, and older content is in versions/ before its name is taken.
"""

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from msgspec import Struct

from xfer import names
from xfer.errors import Code, Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import CommitSteps, IfExists, Item, NewDirectory, NewFile, NewSymlink
from xfer.storage.local.layout import Layout
from xfer.storage.local.partials import LocalPartial, temporary_name
from xfer.storage.os_errors import refusal
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.files import apply_metadata, has_metadata, same_content
from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.links import (
    NOWHERE,
    NameAt,
    is_no_link,
    link,
    link_or_rename,
    link_version,
    remove,
    replace,
    symlink_new,
)


class PendingItem(Struct):
    """One item on its way: where it goes, what is ready for it, and how it ended."""

    item: Item
    partial: LocalPartial | None = None
    path: bytes = b""
    at: NameAt = NOWHERE
    is_taken: bool = False
    ready: bytes = b""
    replaces: bool = False
    compared: tuple[int, int] | None = None
    kept: tuple[int, int] | None = None
    freed: int = 0
    outcome: Outcome | Refused | None = None


class Commit:
    """One batch. Closes what it opened, and removes what it did not install.

    `freed` says how many bytes of older content went away, for which names.
    """

    def __init__(self, layout: Layout, if_exists: IfExists, flusher: Flusher) -> None:
        self._layout = layout
        self._if_exists = if_exists
        self._flusher = flusher
        self._opened = contextlib.ExitStack()
        self._directories = self._opened.enter_context(Directories(layout.files))
        self._versions = self._opened.enter_context(Directories(layout.versions))
        self._new_bytes: set[int] = set()
        self._same_bytes: set[int] = set()
        self.freed: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run(self, items: Sequence[Item]) -> CommitSteps:
        batch = [PendingItem(item) for item in items]
        try:
            _each(batch, self._prepare)
            if self._new_bytes:
                yield functools.partial(self._flush, batch, self._new_bytes)
            linked = [one for one in _undecided(batch) if not isinstance(one.item, NewDirectory)]
            self._directories.will_make(one.path for one in linked)
            _each(linked, self._link)
            if taken := [one for one in _undecided(batch) if one.is_taken]:
                yield functools.partial(self._replace_all, taken)
            _each(_undecided(batch), self._install_directory)
            if changed := self._directories.changed:
                yield functools.partial(self._flush, batch, changed, self._directories)
        finally:
            for item in items:
                if isinstance(item, NewFile):
                    item.partial.discard()
        return [pending.outcome or Refused("not stored") for pending in batch]

    def _flush(
        self,
        batch: Iterable[PendingItem],
        descriptors: set[int],
        flushed: Directories | None = None,
    ) -> None:
        """Nothing of a batch is acknowledged when one of its flushes failed."""
        try:
            self._flusher.flush(descriptors)
        except OSError as error:
            for pending in batch:
                if not isinstance(pending.outcome, Refused):
                    pending.outcome = _refused(error)
        else:
            if flushed:
                flushed.flushed()

    def _prepare(self, pending: PendingItem) -> None:
        pending.path = names.to_bytes(pending.item.name)
        parent, _, name = pending.path.rpartition(b"/")
        pending.at = NameAt(self._directories.open(parent), name)
        if isinstance(pending.item, NewFile) and isinstance(pending.item.partial, LocalPartial):
            pending.partial = pending.item.partial
            self._new_bytes.add(pending.partial.descriptor)

    # 2. link

    def _link(self, pending: PendingItem) -> None:
        self._directories.changed.add(pending.at.directory)
        try:
            if pending.partial:
                link(pending.partial.name, self._layout.partials, pending.at)
            elif isinstance(pending.item, NewSymlink):
                symlink_new(names.to_bytes(pending.item.target), pending.at)
            pending.outcome = Outcome.STORED
        except OSError as error:
            if not (isinstance(error, FileExistsError) or is_no_link(error)):
                raise
            pending.is_taken = True

    # 3. compare

    def _replace_all(self, batch: Sequence[PendingItem]) -> None:
        _each(batch, self._compare)
        self._flush(batch, self._same_bytes)
        with self._layout.installing:
            _each(_undecided(batch), self._keep_version)
            self._flush(_undecided(batch), self._versions.changed, self._versions)
            _each(_undecided(batch), self._replace)

    def _compare(self, pending: PendingItem) -> None:
        if pending.partial:
            pending.ready = pending.partial.name
            self._compare_file(pending, pending.partial)
        elif isinstance(pending.item, NewSymlink):
            self._compare_link(pending, names.to_bytes(pending.item.target))

    def _compare_file(self, pending: PendingItem, partial: LocalPartial) -> None:
        existing = self._open_existing(pending)
        if existing is None:
            return
        status = os.fstat(existing)
        pending.compared = status.st_dev, status.st_ino
        is_shared = status.st_nlink > 1 and not has_metadata(status, partial.metadata)
        if not is_shared and same_content(existing, partial.descriptor):
            with contextlib.suppress(PermissionError):  # the content is what was asked for
                apply_metadata(existing, partial.metadata)
            self._same_bytes.add(existing)
            pending.outcome = Outcome.UNCHANGED

    def _open_existing(self, pending: PendingItem) -> int | None:
        status = pending.at.status()
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(pending.at.name, flags, dir_fd=pending.at.directory)
        except (FileNotFoundError, PermissionError):
            return None
        self._opened.callback(os.close, descriptor)
        return descriptor

    def _compare_link(self, pending: PendingItem, target: bytes) -> None:
        status = pending.at.status()
        is_link = status is not None and stat.S_ISLNK(status.st_mode)
        if is_link and os.readlink(pending.at.name, dir_fd=pending.at.directory) == target:
            pending.outcome = Outcome.UNCHANGED
            return
        pending.ready = temporary_name()
        os.symlink(target, pending.ready, dir_fd=self._layout.partials)
        self._opened.callback(remove, pending.ready, self._layout.partials)

    # 4. version

    def _keep_version(self, pending: PendingItem) -> None:
        status = pending.at.status()
        if status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if self._is_unchanged_after_all(pending, status):
            return
        if self._if_exists is IfExists.REFUSE:
            raise Refused("the receiver has other content under this name", code=Code.EXISTS)
        pending.replaces = True
        if self._if_exists is IfExists.VERSION:
            kept_in = self._versions.open(pending.path)
            link_version(pending.at, kept_in)
            self._versions.changed.add(kept_in)
            pending.kept = status.st_dev, status.st_ino
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # else it stays somewhere
            pending.freed = status.st_size

    def _is_unchanged_after_all(self, pending: PendingItem, status: os.stat_result) -> bool:
        """Another session can have stored the same content since it was compared."""
        if pending.partial and pending.compared != (status.st_dev, status.st_ino):
            self._compare_file(pending, pending.partial)
            self._flusher.flush(self._same_bytes)
        return pending.outcome is not None

    # 5. replace

    def _replace(self, pending: PendingItem) -> None:
        partials = self._layout.partials
        keeps_old_name = False
        if not pending.replaces:
            try:
                keeps_old_name = link_or_rename(pending.ready, partials, pending.at)
            except FileExistsError:  # made by somebody else since the versions were kept
                self._keep_version(pending)
                self._flusher.flush(self._versions.changed)
                if pending.outcome:
                    return
        if pending.replaces:
            self._keep_newcomer(pending)
            replace(pending.ready, partials, pending.at)
            self.freed[pending.item.name] = pending.freed
        if pending.partial and not keeps_old_name:
            pending.partial.forget_name()
        kept = pending.replaces and self._if_exists is IfExists.VERSION
        pending.outcome = Outcome.VERSIONED if kept else Outcome.STORED

    def _keep_newcomer(self, pending: PendingItem) -> None:
        """Another item of this batch can have the name, where names are not told apart."""
        status = pending.at.status()
        if pending.kept and status and (status.st_dev, status.st_ino) != pending.kept:
            self._keep_version(pending)
            self._flusher.flush(self._versions.changed)

    # 6. directories

    def _install_directory(self, pending: PendingItem) -> None:
        if not isinstance(pending.item, NewDirectory):
            return
        existed = pending.at.status() is not None
        descriptor = self._directories.open(pending.path)
        before = os.fstat(descriptor)
        apply_metadata(descriptor, pending.item.metadata)
        after = os.fstat(descriptor)
        self._directories.changed |= {pending.at.directory, descriptor}
        same = (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns)
        pending.outcome = Outcome.UNCHANGED if existed and same else Outcome.STORED


def _each(batch: Iterable[PendingItem], action: Callable[[PendingItem], None]) -> None:
    for pending in batch:
        try:
            action(pending)
        except OSError as error:
            pending.outcome = _refused(error)
        except Refused as error:
            pending.outcome = error


def _undecided(batch: Iterable[PendingItem]) -> list[PendingItem]:
    return [pending for pending in batch if pending.outcome is None]


def _refused(error: OSError) -> Refused:
    refused = refusal(error)
    refused.__cause__ = error
    return refused
