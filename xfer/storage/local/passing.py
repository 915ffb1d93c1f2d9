"""A store for as long as something is got into a directory of the user's own.

DIR/.xfer is as a receiver's while that lasts, so that an interrupted get is resumed. When
nothing is left to resume it is removed again, but for older content that was to be kept.
One that was there before, of a receiver, is left alone.
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
_PARTIALS: Final = "partials"
_VERSIONS: Final = "versions"
_OWN: Final = frozenset((_MARK, _PARTIALS, _VERSIONS, "sessions", "lock", "installing", "modes"))
"""All that a get leaves there. Where there is more, a receiver has been, too."""


@contextlib.contextmanager
def passing_store(directory: str, if_exists: IfExists) -> Iterator[LocalStore]:
    """A store in `directory`. LocalError when that is not there, not writable or in use."""
    if not os.path.isdir(directory):
        raise LocalError(f"there is no directory {directory}: make it first")
    state = os.path.join(directory, STATE_DIRECTORY)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(state, 0o700)
            os.close(os.open(os.path.join(state, _MARK), os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        raise LocalError(f"cannot write to {directory}: {error.strerror}") from error
    with LocalStore(directory, if_exists) as store:
        try:
            yield store
        finally:
            _remove(state)  # while the store has its lock


def _remove(state: str) -> None:
    with contextlib.suppress(OSError):  # it is in nobody's way
        found = set(os.listdir(state))
        if _MARK not in found or found - _OWN or os.listdir(os.path.join(state, _PARTIALS)):
            return
        if not os.listdir(os.path.join(state, _VERSIONS)):
            shutil.rmtree(state)
            return
        for name in found - {_VERSIONS}:
            path = os.path.join(state, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
