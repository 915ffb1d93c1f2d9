"""Names in open directories: made where there was none, replaced in one step, kept as versions.

Everything here is one system call that the kernel does whole or not at all,
or, for file systems without hard links, the nearest thing to it.
"""

import contextlib
import ctypes
import datetime
import errno
import os
import stat
from typing import Final, NamedTuple

from xfer.storage.contract import Metadata
from xfer.storage.posix.directories import OPEN_DIRECTORY, make_writable_for
from xfer.storage.posix.files import apply_metadata

_COPIED_BYTES: Final = 1024 * 1024
_NO_LINK: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""The file system has no hard links, or allows no more of them to this file."""

_RENAMEAT2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
_RENAME_EXCHANGE: Final = 2
_NO_EXCHANGE: Final = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""Neither the kernel nor the file system has to know how to exchange names."""


class NameAt(NamedTuple):
    """A name, of one component, in an open directory, as linkat(2) takes it."""

    directory: int
    name: bytes

    def status(self) -> os.stat_result | None:
        """Of what has the name now, not followed if it is a link; None when nothing has."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_only_name_of(self, descriptor: int) -> bool:
        """Whether an open file has this name now, and no other that a change would show under.

        Asked of the name: of a descriptor that was opened under it, the name may be gone,
        and the only one that the file has left may be somebody else's.
        """
        status = self.status()
        if status is None or status.st_nlink > 1:
            return False
        return os.path.samestat(status, os.fstat(descriptor))


NOWHERE: Final = NameAt(-1, b"")
"""For a struct that gets its name later."""


def is_link_impossible(error: OSError) -> bool:
    """Whether a hard link failed because there can be none: then a partial is renamed instead."""
    return error.errno in _NO_LINK


def link(name: bytes, directory: int, at: NameAt) -> None:
    """Make `at` a second name of the file `name` in an open directory.

    FileExistsError when the name is taken: a link, unlike a rename, replaces nothing.
    """

    def link() -> None:
        os.link(
            name, at.name,
            src_dir_fd=directory, dst_dir_fd=at.directory, follow_symlinks=False,
        )  # fmt: skip

    make_writable_for(at.directory, link)


def symlink(target: bytes, at: NameAt) -> None:
    """Make a symbolic link. FileExistsError when the name is taken."""
    make_writable_for(at.directory, lambda: os.symlink(target, at.name, dir_fd=at.directory))


def link_or_rename(name: bytes, directory: int, at: NameAt) -> bool:
    """Like `link`, but rename the file where there can't be a link; whether it was linked.

    FileExistsError when the name is taken. Where there are no hard links, that
    is looked up before the rename: the caller holds a lock against other
    sessions, and a name that another program makes in between is replaced.
    """
    try:
        link(name, directory, at)
    except OSError as error:
        if not is_link_impossible(error):
            raise
        if at.status() is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        replace(name, directory, at)
        return False
    return True


def replace(name: bytes, directory: int, at: NameAt) -> None:
    """Rename a file or link to `at`, and replace what had that name: anything but a directory."""

    def rename() -> None:
        os.rename(name, at.name, src_dir_fd=directory, dst_dir_fd=at.directory)

    make_writable_for(at.directory, rename)


def link_version(at: NameAt, kept_in: int) -> None:
    """Make a second name for what `at` is, in the open directory `kept_in`: the time in UTC.

    The caller flushes `kept_in`. Where there can't be a link, it is copied.
    """
    while True:
        stamp = _stamp()
        try:
            os.link(
                at.name, stamp,
                src_dir_fd=at.directory, dst_dir_fd=kept_in, follow_symlinks=False,
            )  # fmt: skip
        except FileExistsError:
            continue  # two within a microsecond: the next one has another name
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            _copy_version(at, stamp, kept_in)
        return


def _stamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _unused_stamp(kept_in: int) -> NameAt:
    """A name for a version that nothing has; the caller holds a lock against other sessions."""
    while (kept := NameAt(kept_in, _stamp().encode())).status() is not None:
        pass  # two within a microsecond
    return kept


def move_version(at: NameAt, kept_in: int, ready: NameAt) -> None:
    """Let `at` show what is `ready`, and keep the directory that it was, with all that it holds.

    It is moved into the open directory `kept_in`, since no directory has two names. There,
    `ready` gets the name first that the version is going to have, and then the two are
    exchanged: `at` shows one or the other. Killed before the exchange, the new content
    stays among the versions. Where names cannot be exchanged, `at` shows nothing for a moment.
    """
    kept = _unused_stamp(kept_in)
    directory = os.open(at.name, OPEN_DIRECTORY, dir_fd=at.directory)
    try:
        _rename(ready, kept)
        try:
            make_writable_for(at.directory, lambda: _exchange_or_move(kept, at), directory)
        except OSError:
            _rename(kept, ready)
            raise
    finally:
        os.close(directory)


def _exchange_or_move(kept: NameAt, at: NameAt) -> None:
    if exchange(kept, at):
        return
    aside = _unused_stamp(kept.directory)
    _rename(at, aside)
    try:
        _rename(kept, at)
    except OSError:
        _rename(aside, at)
        raise


def replace_by_directory(at: NameAt, temporary: NameAt, mode: int) -> None:
    """Let `at` show a new, empty directory in place of what is no directory, and is lost.

    Where names cannot be exchanged, it shows nothing for a moment.
    """
    os.mkdir(temporary.name, mode, dir_fd=temporary.directory)

    def replace() -> None:
        if not exchange(temporary, at):
            os.unlink(at.name, dir_fd=at.directory)
            _rename(temporary, at)

    try:
        make_writable_for(at.directory, replace)
    except OSError:
        os.rmdir(temporary.name, dir_fd=temporary.directory)
        raise
    remove(temporary.name, temporary.directory)


def exchange(one: NameAt, other: NameAt) -> bool:
    """Exchange what two names are, in one step; False where the system cannot. See renameat2(2)."""
    if _RENAMEAT2 is None:
        return False
    names = (one.directory, one.name, other.directory, other.name)
    if _RENAMEAT2(*names, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number))


def _rename(one: NameAt, other: NameAt) -> None:
    os.rename(one.name, other.name, src_dir_fd=one.directory, dst_dir_fd=other.directory)


def _copy_version(at: NameAt, stamp: str, kept_in: int) -> None:
    """Copy what `at` is, content flushed, with its mode and time; nothing is left of half a copy.

    One that is killed half-way leaves a partial copy among the versions, and
    the content under its name.
    """
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
    """Remove a name that may be gone already: a file's, a link's, or an empty directory's."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.unlink(name, dir_fd=directory)
        except (IsADirectoryError, PermissionError):  # the latter outside Linux
            os.rmdir(name, dir_fd=directory)
