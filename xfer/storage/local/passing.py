"""A store for as long as something is got into a directory of the user's own.

DIR/.xfer is as a receiver's while that lasts, so that an interrupted get is resumed. When
nothing is left to resume it is removed again, but for older content that was to be kept.
One that was there before, of a receiver, is left alone.

Whose it is, a mark says, that is made first and removed last: a get that is killed at any
moment leaves nothing that the next one would take for a receiver's.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Final

from xfer.errors import LocalError
from xfer.names import STATE_DIRECTORY
from xfer.storage.contract import IfExists
from xfer.storage.local.store import LocalStore

_MARK: Final = "passing"
"""A file that says that a get has made the state directory."""
_LOCK: Final = "lock"
_PARTIALS: Final = "partials"
_VERSIONS: Final = "versions"
_OWN: Final = frozenset((_MARK, _PARTIALS, _VERSIONS, "sessions", _LOCK, "installing", "modes"))
"""All that a get leaves there. Where there is more, a receiver has been, too."""


@contextlib.contextmanager
def passing_store(directory: str, if_exists: IfExists) -> Iterator[LocalStore]:
    """A store in `directory`. LocalError when that is not there, not writable or in use."""
    if not os.path.isdir(directory):
        raise LocalError(f"there is no directory {directory}: make it first")
    state = os.path.join(directory, STATE_DIRECTORY)
    try:
        _make(state)
    except OSError as error:
        raise LocalError(f"cannot write to {directory}: {error.strerror}") from error
    with LocalStore(directory, if_exists) as store:
        try:
            yield store
        finally:
            with contextlib.suppress(OSError):  # it is in nobody's way
                _remove(state)  # while the store has its lock


def _make(state: str) -> None:
    """Make the state directory, and mark it, unless a receiver has."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(state, 0o700)
    # Both are all that a get leaves that was killed while it removed the rest, or kept versions.
    if not set(os.listdir(state)) - {_LOCK, _VERSIONS}:
        mark = os.path.join(state, _MARK)
        os.close(os.open(mark, os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _remove(state: str) -> None:
    found = set(os.listdir(state))
    if _MARK not in found or found - _OWN or os.listdir(os.path.join(state, _PARTIALS)):
        return
    for name in sorted(found - {_MARK, _LOCK, _VERSIONS}):
        path = os.path.join(state, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    with contextlib.suppress(OSError):  # it is not empty
        os.rmdir(os.path.join(state, _VERSIONS))
    for name in (_MARK, _LOCK):
        os.unlink(os.path.join(state, name))
    os.rmdir(state)
