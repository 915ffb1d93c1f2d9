"""Files that hold secrets: for their owner's eyes only, and never reached through a link."""

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
_HANDED_DOWN: Final = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def reading(file: str, what: str) -> Iterator[TextIO]:
    """A private file, open for reading; `what` names its content in errors.

    LocalError when it can't be read, is a link, can be read by others, or
    belongs to somebody who is neither us nor root.
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
        # Without its cause, which has the content.
        raise LocalError(f"{what} in {file} is not text") from None


def create(file: str, text: str) -> None:
    """Write a new private file, flushed. LocalError when that fails, and when it exists."""
    try:
        _make_parent(file)
        _write_new(file, text)
    except FileExistsError as error:
        raise LocalError(f"{file} exists and is not overwritten") from error
    except OSError as error:
        raise LocalError(f"cannot write {file}: {error.strerror}") from error


def change(file: str, what: str, edit: Callable[[str], str]) -> None:
    """Put `edit(text)` in the place of a private file in one step; in a new one, of no text.

    Whoever else changes a file of that directory so waits. LocalError when
    that fails; then, and when `edit` raises, nothing has changed.
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


def _make_parent(file: str) -> None:
    if parent := os.path.dirname(file):
        os.makedirs(parent, mode=0o700, exist_ok=True)


def _replace(file: str, text: str, old: os.stat_result) -> None:
    draft = f"{file}.{secrets.token_hex(8)}"
    _write_new(draft, text)
    try:
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(draft, old.st_uid, old.st_gid, follow_symlinks=False)
        os.rename(draft, file)
    except OSError:
        os.unlink(draft)
        raise


def _open(file: str) -> int:
    """A shell's `<(command)` is a link by its nature, to what the shell has opened for us."""
    if handed_down := _HANDED_DOWN.fullmatch(file):
        return os.dup(int(handed_down[1]))
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
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(file)
        raise
