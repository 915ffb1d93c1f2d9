"""Names in directories: linked where there was none, replaced in one step, kept as versions."""

import contextlib
import datetime
import errno
import os
import stat
from typing import Final, NamedTuple

from xfer.storage.contract import Metadata
from xfer.storage.posix.directories import in_spite_of_mode
from xfer.storage.posix.files import apply_metadata

_COPIED_BYTES: Final = 1024 * 1024
_NO_LINK: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""The file system has no hard links, or allows no other one to this file."""


class NameAt(NamedTuple):
    """A name in an open directory."""

    directory: int
    name: bytes

    def status(self) -> os.stat_result | None:
        """What has the name now, not followed if it is a link; None when nothing has."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None


NOWHERE: Final = NameAt(-1, b"")


def is_no_link(error: OSError) -> bool:
    """Whether there can't be a second name, and a partial has to be renamed."""
    return error.errno in _NO_LINK


def link(ready: bytes, partials: int, at: NameAt) -> None:
    """Give a partial its name beside the one it has.

    FileExistsError when the name is taken: a link never replaces.
    """

    def link() -> None:
        os.link(
            ready, at.name,
            src_dir_fd=partials, dst_dir_fd=at.directory, follow_symlinks=False,
        )  # fmt: skip

    in_spite_of_mode(at.directory, link)


def symlink_new(target: bytes, at: NameAt) -> None:
    """Make a symbolic link. FileExistsError when the name is taken."""
    in_spite_of_mode(at.directory, lambda: os.symlink(target, at.name, dir_fd=at.directory))


def link_or_rename(ready: bytes, partials: int, at: NameAt) -> bool:
    """Give a partial its name; whether it still has the old one, too.

    FileExistsError when the name is taken. Where there are no links, nobody else
    may make that name meanwhile.
    """
    try:
        link(ready, partials, at)
    except OSError as error:
        if not is_no_link(error):
            raise
        if at.status() is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        replace(ready, partials, at)
        return False
    return True


def replace(ready: bytes, partials: int, at: NameAt) -> None:
    """Give a partial its name, whatever had it."""

    def rename() -> None:
        os.rename(ready, at.name, src_dir_fd=partials, dst_dir_fd=at.directory)

    in_spite_of_mode(at.directory, rename)


def link_version(at: NameAt, kept_in: int) -> None:
    """Keep what has the name in the directory `kept_in` too, under the time it is now."""
    while True:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        try:
            os.link(
                at.name, stamp,
                src_dir_fd=at.directory, dst_dir_fd=kept_in, follow_symlinks=False,
            )  # fmt: skip
        except FileExistsError:
            continue  # two within a microsecond
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            _copy_version(at, stamp, kept_in)
        return


def _copy_version(at: NameAt, stamp: str, kept_in: int) -> None:
    """Where a second link can't be had: the older content once more, flushed."""
    status = os.stat(at.name, dir_fd=at.directory, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(at.name, dir_fd=at.directory), stamp, dir_fd=kept_in)
        return
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.ExitStack() as opened:
        source = os.open(at.name, os.O_RDONLY | flags, dir_fd=at.directory)
        opened.callback(os.close, source)
        copy = os.open(stamp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=kept_in)
        opened.callback(os.close, copy)
        try:
            while os.sendfile(copy, source, None, _COPIED_BYTES):
                pass
            apply_metadata(copy, Metadata(status.st_mode, status.st_mtime_ns))
            os.fsync(copy)
        except OSError:
            remove(stamp.encode(), kept_in)
            raise


def remove(name: bytes, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
