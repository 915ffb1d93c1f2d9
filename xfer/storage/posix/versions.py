"""Older content on its way to versions/: linked, copied or moved there, under the time in UTC."""

import contextlib
import datetime
import os
import stat
from collections.abc import Iterator
from typing import Final

from xfer.storage.contract import Metadata
from xfer.storage.posix.access import open_for_reading, with_access
from xfer.storage.posix.directories import OPEN_DIRECTORY
from xfer.storage.posix.files import apply_metadata
from xfer.storage.posix.links import (
    NameAt,
    exchange,
    is_link_impossible,
    link,
    remove,
    rename,
)

_COPIED_BYTES: Final = 1024 * 1024


def link_version(at: NameAt, kept_in: int) -> None:
    """Make a second name for what `at` is, in the open directory `kept_in`: the time in UTC.

    The caller flushes `kept_in`. Where there can't be a link, it is copied.
    """
    for kept in _stamped(kept_in):
        try:
            link(at.name, at.directory, kept)
        except FileExistsError:
            continue
        except OSError as error:
            if not is_link_impossible(error):
                raise
            _copy_version(at, kept)
        return


def _stamped(kept_in: int) -> Iterator[NameAt]:
    """Names for a version: the time, and then the microseconds after it.

    Two come within one, or with a clock that stands still or was set back.
    """
    moment = datetime.datetime.now(datetime.UTC)
    while True:
        yield NameAt(kept_in, moment.strftime("%Y%m%dT%H%M%S.%fZ").encode())
        moment += datetime.timedelta(microseconds=1)


def _unused_stamps(kept_in: int) -> tuple[NameAt, NameAt]:
    """Two names for versions; the caller holds a lock against other sessions."""
    unused = (kept for kept in _stamped(kept_in) if kept.status() is None)
    return next(unused), next(unused)


def move_version(at: NameAt, kept_in: int, ready: NameAt) -> None:
    """Let `at` show what is `ready`, and keep the directory that it was, with all that it holds.

    It is moved into the open directory `kept_in`, since no directory has two names. There,
    `ready` gets the name first that the version is going to have, and then the two are
    exchanged: `at` shows one or the other. Killed before the exchange, the new content
    stays among the versions. Where names cannot be exchanged, `at` shows nothing for a moment.
    """
    kept, aside = _unused_stamps(kept_in)
    directory = open_for_reading(at.name, OPEN_DIRECTORY, at.directory)
    try:
        rename(ready, kept)
        try:
            with_access(at.directory, lambda: _exchange_or_move(kept, at, aside), directory)
        except OSError:
            rename(kept, ready)
            raise
    finally:
        os.close(directory)


def _exchange_or_move(kept: NameAt, at: NameAt, aside: NameAt) -> None:
    if exchange(kept, at):
        return
    rename(at, aside)
    try:
        rename(kept, at)
    except OSError:
        rename(aside, at)
        raise


def _copy_version(at: NameAt, kept: NameAt) -> None:
    """Copy what `at` is, content flushed, with its mode and time; nothing is left of half a copy.

    One that is killed half-way leaves a partial copy among the versions, and
    the content under its name.
    """
    status = os.stat(at.name, dir_fd=at.directory, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(at.link_target(), kept.name, dir_fd=kept.directory)
        return
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.ExitStack() as opened:
        source = open_for_reading(at.name, os.O_RDONLY | flags, at.directory)
        opened.callback(os.close, source)
        copy = os.open(
            kept.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=kept.directory
        )
        opened.callback(os.close, copy)
        try:
            while os.sendfile(copy, source, None, _COPIED_BYTES):
                pass
            apply_metadata(copy, Metadata(status.st_mode, status.st_mtime_ns))
            os.fsync(copy)
        except OSError:
            remove(kept.name, kept.directory)
            raise
