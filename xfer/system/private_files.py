"""Files that hold secrets: only their owner may read them, and they are reached through no link.

What replaces a file, and what several processes may make at once, is written
beside it under a random name, flushed, and then renamed or linked: under its own
name it is there whole, or not at all. Other new files are written in place, and
removed again when that fails.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from xfer.errors import LocalError

_READABLE_BY_OTHERS: Final = 0o077
_ROOT: Final = 0
_INHERITED: Final = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
"""What a shell puts in the place of `<(command)`: the name of a descriptor it opened for us."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def reading(file: str, what: str) -> Iterator[TextIO]:
    """A private file, open for reading; `what` names its content in errors.

    LocalError when it can't be read or is not UTF-8, is a link, can be read by
    others, or belongs to a user who is neither this one nor root.
    """
    try:
        with contextlib.ExitStack() as unless_private:
            descriptor = _open(file)
            unless_private.callback(os.close, descriptor)
            _require_private(file, what, os.fstat(descriptor))
            unless_private.pop_all()
        with open(descriptor, encoding="utf-8") as opened:
            yield opened
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise LocalError(f"cannot read {what} in {file}: {reason}") from error
    except UnicodeDecodeError:
        # Without its cause: that has the content, and would be printed with a traceback.
        raise LocalError(f"{what} in {file} is not text") from None


def create(file: str, text: str) -> None:
    """Write a new private file in its place, flushed. LocalError when that fails or it exists.

    What could not be written whole is removed again.
    """
    try:
        _make_parent(file)
        _write_new(file, text)
    except FileExistsError as error:
        raise LocalError(f"{file} exists and is not overwritten") from error
    except OSError as error:
        raise LocalError(f"cannot write {file}: {error.strerror}") from error


def change(file: str, what: str, edit: Callable[[str], str]) -> None:
    """Replace the text of a private file by `edit(text)`, in one step; a missing file has "".

    Its owner and group stay. The directory is locked meanwhile: two processes
    change its files one after the other, and lose nothing that the other wrote.
    LocalError when it can't be read (see `reading`) or written; then, and when
    `edit` raises, nothing has changed.
    """
    try:
        _make_parent(file)
        directory = os.open(os.path.dirname(file) or ".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            if not os.path.lexists(file):
                _write_new(file, edit(""))
            else:
                with reading(file, what) as opened:
                    text, status = opened.read(), os.fstat(opened.fileno())
                _replace(file, edit(text), status)
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise LocalError(f"cannot write {file}: {error.strerror}") from error


def create_if_missing(file: str, text: str) -> None:
    """Have a private file there, in one step: with `text`, or as another process just made it.

    OSError when that fails.
    """
    _make_parent(file)
    with _draft(file, text) as draft, contextlib.suppress(FileExistsError):
        os.link(draft, file)


def _make_parent(file: str) -> None:
    if parent := os.path.dirname(file):
        os.makedirs(parent, mode=0o700, exist_ok=True)


def _replace(file: str, text: str, old: os.stat_result) -> None:
    with _draft(file, text) as draft:
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(draft, old.st_uid, old.st_gid, follow_symlinks=False)
        os.rename(draft, file)


@contextlib.contextmanager
def _draft(file: str, text: str) -> Iterator[str]:
    """The name of a new private file beside `file`, flushed; removed unless it is renamed."""
    draft = f"{file}.{secrets.token_hex(8)}"
    _write_new(draft, text)
    try:
        yield draft
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def _open(file: str) -> int:
    """The descriptor of a file that is no link, unless the shell made the link for us."""
    if inherited := _INHERITED.fullmatch(file):
        return os.dup(int(inherited[1]))
    return os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _require_private(file: str, what: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if status.st_uid not in (_ROOT, os.geteuid()):
        raise LocalError(f"{what} in {file} belongs to somebody else (user {status.st_uid})")
    if stat.S_ISREG(status.st_mode) and status.st_mode & _READABLE_BY_OTHERS:
        raise LocalError(f"others can read {what} in {file}: chmod 600 {file}")


def _write_new(file: str, text: str) -> None:
    descriptor = os.open(file, _NEW, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(file)
        raise
