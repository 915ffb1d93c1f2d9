"""Names in open directories: made where there was none, replaced or exchanged in one step.

Everything here is one system call that the kernel does whole or not at all,
or, for file systems without hard links, the nearest thing to it.
"""

import contextlib
import ctypes
import errno
import os
from typing import Final, NamedTuple

from xfer.storage.posix.access import with_access

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
            return with_access(self.directory, self._look)
        except FileNotFoundError:
            return None

    def _look(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def link_target(self) -> bytes:
        """The text of the symbolic link that has the name. OSError where none has."""
        return with_access(self.directory, lambda: os.readlink(self.name, dir_fd=self.directory))

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

    with_access(at.directory, link, directory)


def symlink(target: bytes, at: NameAt) -> None:
    """Make a symbolic link. FileExistsError when the name is taken."""
    with_access(at.directory, lambda: os.symlink(target, at.name, dir_fd=at.directory))


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

    with_access(at.directory, lambda: rename(NameAt(directory, name), at))


def replace_by_directory(at: NameAt, temporary: NameAt, mode: int) -> None:
    """Let `at` show a new, empty directory in place of what is no directory, and is lost.

    Where names cannot be exchanged, it shows nothing for a moment.
    """
    os.mkdir(temporary.name, mode, dir_fd=temporary.directory)

    def replace() -> None:
        if not exchange(temporary, at):
            os.unlink(at.name, dir_fd=at.directory)
            rename(temporary, at)

    try:
        with_access(at.directory, replace)
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


def rename(one: NameAt, other: NameAt) -> None:
    """One system call: what `other` was is replaced."""
    os.rename(one.name, other.name, src_dir_fd=one.directory, dst_dir_fd=other.directory)


def remove(name: bytes, directory: int) -> None:
    """Remove a name that may be gone already: a file's, a link's, or an empty directory's."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.unlink(name, dir_fd=directory)
        except (IsADirectoryError, PermissionError):  # the latter outside Linux
            os.rmdir(name, dir_fd=directory)
