"""Putting a batch under its names: the order in which nothing is lost.

    1. compare   what already has the same content is left where it is
    2. flush     the bytes of every file
    3. version   older content gets a second link, in versions/; flush
    4. install   each name in one step: linked where there was none, else replaced
    5. flush     the directories

Whatever cuts this short, each name shows nothing, the old content or the whole
new content, and older content is in versions/ before its name is taken.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from xfer import names
from xfer.errors import Code, Refused
from xfer.storage import (
    IfExists,
    Item,
    Metadata,
    NewDirectory,
    NewFile,
    NewSymlink,
    Outcome,
    refusal,
)
from xfer.storage.directories import Directories
from xfer.storage.durability import Flusher
from xfer.storage.layout import Layout
from xfer.storage.partial import LocalPartial, apply_metadata, temporary_name
from xfer.storage.places import NOWHERE, Place, link_new, link_version, remove, replace

_COMPARED_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class _Step:
    """One item on its way: where it goes, what is ready for it, and how it ended."""

    item: Item
    place: Place = NOWHERE
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
        self._flushed: set[int] = set()
        self.freed: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run(self, items: Sequence[Item]) -> list[Outcome | Refused]:
        steps = [_Step(item) for item in items]
        try:
            _each(steps, self._prepare)
            self._flush(steps, self._flushed)
            with self._layout.installing:
                _each(_open(steps), self._keep_version)
                if self._flush(_open(steps), self._versions.changed):
                    self._versions.flushed()
                _each(_open(steps), self._install)
            if self._flush(steps, self._directories.changed):
                self._directories.flushed()
        finally:
            for item in items:
                if isinstance(item, NewFile):
                    item.partial.discard()
        return [step.result or Refused("not stored") for step in steps]

    def _flush(self, steps: Iterable[_Step], descriptors: set[int]) -> bool:
        """Nothing of a batch is acknowledged when one of its flushes failed."""
        try:
            self._flusher.flush(descriptors)
        except OSError as error:
            for step in steps:
                if not isinstance(step.result, Refused):
                    step.result = _refused(error)
            return False
        return True

    # 1. compare

    def _prepare(self, step: _Step) -> None:
        path, _, name = names.to_bytes(step.item.name).rpartition(b"/")
        step.place = Place(self._directories.open(path), name)
        match step.item:
            case NewFile(_, LocalPartial() as partial):
                step.ready = partial.name
                self._flushed.add(partial.descriptor)
                self._compare_file(step, partial)
            case NewSymlink(_, target):
                self._make_link(step, names.to_bytes(target))

    def _compare_file(self, step: _Step, partial: LocalPartial) -> None:
        existing = self._open_existing(step)
        if existing is not None:
            status = os.fstat(existing)
            step.compared = status.st_dev, status.st_ino
        if existing is not None and _same_content(existing, partial.descriptor):
            with contextlib.suppress(PermissionError):  # the content is what was asked for
                apply_metadata(existing, partial.metadata)
            self._flushed.add(existing)
            self._found_unchanged(step)

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

    def _make_link(self, step: _Step, target: bytes) -> None:
        status = step.place.status()
        is_link = status is not None and stat.S_ISLNK(status.st_mode)
        if is_link and os.readlink(step.place.name, dir_fd=step.place.directory) == target:
            self._found_unchanged(step)
            return
        step.ready = temporary_name()
        os.symlink(target, step.ready, dir_fd=self._layout.partials)
        self._opened.callback(remove, step.ready, self._layout.partials)

    def _found_unchanged(self, step: _Step) -> None:
        self._directories.changed.add(step.place.directory)
        step.result = Outcome.UNCHANGED

    # 3. version

    def _keep_version(self, step: _Step) -> None:
        status = step.place.status()
        if status is None or isinstance(step.item, NewDirectory):
            return
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if self._is_unchanged_after_all(step, status):
            return
        if self._if_exists is IfExists.REFUSE:
            raise Refused("the receiver has other content under this name", code=Code.EXISTS)
        step.replaces = True
        if self._if_exists is IfExists.VERSION:
            kept_in = self._versions.open(names.to_bytes(step.item.name))
            link_version(step.place, kept_in)
            self._versions.changed.add(kept_in)
            step.kept = status.st_dev, status.st_ino
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # else it stays somewhere
            step.freed = status.st_size

    def _is_unchanged_after_all(self, step: _Step, status: os.stat_result) -> bool:
        """Another session can have stored the same content since it was compared."""
        if step.compared != (status.st_dev, status.st_ino):
            match step.item:
                case NewFile(_, LocalPartial() as partial):
                    self._compare_file(step, partial)
        return step.result is not None

    # 4. install

    def _install(self, step: _Step) -> None:
        if isinstance(step.item, NewDirectory):
            self._install_directory(step, step.item.metadata)
            return
        partials = self._layout.partials
        self._directories.changed.add(step.place.directory)
        self._directories.will_make(names.to_bytes(step.item.name))
        keeps_old_name = False
        if not step.replaces:
            try:
                keeps_old_name = link_new(step.ready, partials, step.place)
            except FileExistsError:  # made by somebody else since the versions were kept
                self._keep_version(step)
                self._flusher.flush(self._versions.changed)
                if step.result:
                    return
        if step.replaces:
            self._keep_newcomer(step)
            replace(step.ready, partials, step.place)
            self.freed[step.item.name] = step.freed
        if isinstance(step.item, NewFile) and not keeps_old_name:
            step.item.partial.forget_name()
        kept = step.replaces and self._if_exists is IfExists.VERSION
        step.result = Outcome.VERSIONED if kept else Outcome.STORED

    def _keep_newcomer(self, step: _Step) -> None:
        """Another item of this batch can have the name, where names are not told apart."""
        status = step.place.status()
        if step.kept and status and (status.st_dev, status.st_ino) != step.kept:
            self._keep_version(step)
            self._flusher.flush(self._versions.changed)

    def _install_directory(self, step: _Step, metadata: Metadata) -> None:
        existed = step.place.status() is not None
        descriptor = self._directories.open(names.to_bytes(step.item.name))
        before = os.fstat(descriptor)
        apply_metadata(descriptor, metadata)
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


def _same_content(one: int, other: int) -> bool:
    if os.fstat(one).st_size != os.fstat(other).st_size:
        return False
    offset = 0
    while block := os.pread(one, _COMPARED_BYTES, offset):
        if block != os.pread(other, _COMPARED_BYTES, offset):
            return False
        offset += len(block)
    return True


def _refused(error: OSError) -> Refused:
    refused = refusal(error)
    refused.__cause__ = error
    return refused
