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
from xfer.storage.contract import IfExists, Item, NewDirectory, NewFile, NewSymlink, Steps
from xfer.storage.local.layout import Layout
from xfer.storage.local.partials import LocalPartial, temporary_name
from xfer.storage.os_errors import refusal
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.files import apply_metadata, has_metadata, same_content
from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.links import (
    NOWHERE,
    Place,
    is_no_link,
    link,
    link_or_rename,
    link_version,
    remove,
    replace,
    symlink_new,
)


class _Step(Struct):
    """One item on its way: where it goes, what is ready for it, and how it ended."""

    item: Item
    partial: LocalPartial | None = None
    path: bytes = b""
    place: Place = NOWHERE
    is_taken: bool = False
    ready: bytes = b""
    replaces: bool = False
    compared: tuple[int, int] | None = None
    kept: tuple[int, int] | None = None
    freed: int = 0
    result: Outcome | Refused | None = None


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

    def run(self, items: Sequence[Item]) -> Steps:
        steps = [_Step(item) for item in items]
        try:
            _each(steps, self._prepare)
            if self._new_bytes:
                yield functools.partial(self._flush, steps, self._new_bytes)
            linked = [step for step in _open(steps) if not isinstance(step.item, NewDirectory)]
            self._directories.will_make(step.path for step in linked)
            _each(linked, self._link)
            if taken := [step for step in _open(steps) if step.is_taken]:
                yield functools.partial(self._replace_all, taken)
            _each(_open(steps), self._install_directory)
            if changed := self._directories.changed:
                yield functools.partial(self._flush, steps, changed, self._directories)
        finally:
            for item in items:
                if isinstance(item, NewFile):
                    item.partial.discard()
        return [step.result or Refused("not stored") for step in steps]

    def _flush(
        self, steps: Iterable[_Step], descriptors: set[int], flushed: Directories | None = None
    ) -> None:
        """Nothing of a batch is acknowledged when one of its flushes failed."""
        try:
            self._flusher.flush(descriptors)
        except OSError as error:
            for step in steps:
                if not isinstance(step.result, Refused):
                    step.result = _refused(error)
        else:
            if flushed:
                flushed.flushed()

    def _prepare(self, step: _Step) -> None:
        step.path = names.to_bytes(step.item.name)
        parent, _, name = step.path.rpartition(b"/")
        step.place = Place(self._directories.open(parent), name)
        if isinstance(step.item, NewFile) and isinstance(step.item.partial, LocalPartial):
            step.partial = step.item.partial
            self._new_bytes.add(step.partial.descriptor)

    # 2. link

    def _link(self, step: _Step) -> None:
        self._directories.changed.add(step.place.directory)
        try:
            if step.partial:
                link(step.partial.name, self._layout.partials, step.place)
            elif isinstance(step.item, NewSymlink):
                symlink_new(names.to_bytes(step.item.target), step.place)
            step.result = Outcome.STORED
        except OSError as error:
            if not (isinstance(error, FileExistsError) or is_no_link(error)):
                raise
            step.is_taken = True

    # 3. compare

    def _replace_all(self, steps: Sequence[_Step]) -> None:
        _each(steps, self._compare)
        self._flush(steps, self._same_bytes)
        with self._layout.installing:
            _each(_open(steps), self._keep_version)
            self._flush(_open(steps), self._versions.changed, self._versions)
            _each(_open(steps), self._replace)

    def _compare(self, step: _Step) -> None:
        if step.partial:
            step.ready = step.partial.name
            self._compare_file(step, step.partial)
        elif isinstance(step.item, NewSymlink):
            self._compare_link(step, names.to_bytes(step.item.target))

    def _compare_file(self, step: _Step, partial: LocalPartial) -> None:
        existing = self._open_existing(step)
        if existing is None:
            return
        status = os.fstat(existing)
        step.compared = status.st_dev, status.st_ino
        is_shared = status.st_nlink > 1 and not has_metadata(status, partial.metadata)
        if not is_shared and same_content(existing, partial.descriptor):
            with contextlib.suppress(PermissionError):  # the content is what was asked for
                apply_metadata(existing, partial.metadata)
            self._same_bytes.add(existing)
            step.result = Outcome.UNCHANGED

    def _open_existing(self, step: _Step) -> int | None:
        status = step.place.status()
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(step.place.name, flags, dir_fd=step.place.directory)
        except (FileNotFoundError, PermissionError):
            return None
        self._opened.callback(os.close, descriptor)
        return descriptor

    def _compare_link(self, step: _Step, target: bytes) -> None:
        status = step.place.status()
        is_link = status is not None and stat.S_ISLNK(status.st_mode)
        if is_link and os.readlink(step.place.name, dir_fd=step.place.directory) == target:
            step.result = Outcome.UNCHANGED
            return
        step.ready = temporary_name()
        os.symlink(target, step.ready, dir_fd=self._layout.partials)
        self._opened.callback(remove, step.ready, self._layout.partials)

    # 4. version

    def _keep_version(self, step: _Step) -> None:
        status = step.place.status()
        if status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if self._is_unchanged_after_all(step, status):
            return
        if self._if_exists is IfExists.REFUSE:
            raise Refused("the receiver has other content under this name", code=Code.EXISTS)
        step.replaces = True
        if self._if_exists is IfExists.VERSION:
            kept_in = self._versions.open(step.path)
            link_version(step.place, kept_in)
            self._versions.changed.add(kept_in)
            step.kept = status.st_dev, status.st_ino
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # else it stays somewhere
            step.freed = status.st_size

    def _is_unchanged_after_all(self, step: _Step, status: os.stat_result) -> bool:
        """Another session can have stored the same content since it was compared."""
        if step.partial and step.compared != (status.st_dev, status.st_ino):
            self._compare_file(step, step.partial)
            self._flusher.flush(self._same_bytes)
        return step.result is not None

    # 5. replace

    def _replace(self, step: _Step) -> None:
        partials = self._layout.partials
        keeps_old_name = False
        if not step.replaces:
            try:
                keeps_old_name = link_or_rename(step.ready, partials, step.place)
            except FileExistsError:  # made by somebody else since the versions were kept
                self._keep_version(step)
                self._flusher.flush(self._versions.changed)
                if step.result:
                    return
        if step.replaces:
            self._keep_newcomer(step)
            replace(step.ready, partials, step.place)
            self.freed[step.item.name] = step.freed
        if step.partial and not keeps_old_name:
            step.partial.forget_name()
        kept = step.replaces and self._if_exists is IfExists.VERSION
        step.result = Outcome.VERSIONED if kept else Outcome.STORED

    def _keep_newcomer(self, step: _Step) -> None:
        """Another item of this batch can have the name, where names are not told apart."""
        status = step.place.status()
        if step.kept and status and (status.st_dev, status.st_ino) != step.kept:
            self._keep_version(step)
            self._flusher.flush(self._versions.changed)

    # 6. directories

    def _install_directory(self, step: _Step) -> None:
        if not isinstance(step.item, NewDirectory):
            return
        existed = step.place.status() is not None
        descriptor = self._directories.open(step.path)
        before = os.fstat(descriptor)
        apply_metadata(descriptor, step.item.metadata)
        after = os.fstat(descriptor)
        self._directories.changed |= {step.place.directory, descriptor}
        same = (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns)
        step.result = Outcome.UNCHANGED if existed and same else Outcome.STORED


def _each(steps: Iterable[_Step], action: Callable[[_Step], None]) -> None:
    for step in steps:
        try:
            action(step)
        except OSError as error:
            step.result = _refused(error)
        except Refused as error:
            step.result = error


def _open(steps: Iterable[_Step]) -> list[_Step]:
    return [step for step in steps if step.result is None]


def _refused(error: OSError) -> Refused:
    refused = refusal(error)
    refused.__cause__ = error
    return refused
