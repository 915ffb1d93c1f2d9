"""What a local store has open of its directory, DIR, and the lock that makes it the only one.

DIR/.xfer/lock           held by the one receiver that uses DIR
DIR/.xfer/installing     held by one of its workers while names are replaced
DIR/.xfer/doubtful       when files changed that a disk may have failed to write (see `doubtful`)
DIR/.xfer/modes          held by one of its workers while something has another mode for a moment
DIR/.xfer/sessions/      a file for each sender, locked by its sessions (see `presence`)
DIR/.xfer/partials/      bytes that are not files yet, under random names or keys (see `partials`)
DIR/.xfer/versions/      <name>/<UTC time>: what a name held before
DIR/.xfer/runs/, snapshots/      what runs have confirmed, and which names were there (see there)
"""

import contextlib
import fcntl
import os
import stat
from typing import Final

from xfer.errors import LocalError
from xfer.names import STATE_DIRECTORY
from xfer.storage.local.flushed import Flushed
from xfer.storage.local.hosts import LoneHost, lone_host, note_host
from xfer.storage.local.kept import KeptPartials
from xfer.storage.local.partials import temporary_prefix
from xfer.storage.posix.access import changing_modes
from xfer.storage.posix.directories import OPEN_DIRECTORY
from xfer.storage.posix.filesystems import file_system_of
from xfer.storage.posix.links import remove
from xfer.storage.posix.lock import Lock
from xfer.storage.posix.timestamps import timestamps_of
from xfer.storage.posix.tree import Tree
from xfer.storage.posix.written_by import bounded

_PRIVATE: Final = 0o700
_LOCK: Final = "lock"
_VERSIONS: Final = "versions"


class Layout:
    """Descriptors of DIR and of its state directories, for all sessions of a store.

    They stay the same until `close`, so any thread may use them. `state` is DIR/.xfer,
    `files` and `versions` are the trees that names and older content are in, `kept` is
    what interrupted sessions left in `partials`, and `flushed` says what of it all is on
    stable storage. `installing` is a lock that a session holds from its look at what has
    a name until it has replaced that.
    """

    def __init__(self, directory: str) -> None:
        """LocalError when `directory` can't be used, or another receiver uses it."""
        self.installing = Lock("installing")
        # One reference, replaced whole by any session's thread.
        self.lone_host = LoneHost()
        with contextlib.ExitStack() as opened:
            try:
                self.root = _opened(opened, os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
                state = _opened(opened, _make_private(STATE_DIRECTORY, self.root))
                self.state = state
                self.lock = _opened(opened, _lock(state))
                self.file_system = file_system_of(self.root)
                self.timestamps = timestamps_of(self.lock)
                self.flushed = Flushed(self.root, state, self.file_system, self.lock)
                opened.callback(self.flushed.close)
                self.sessions = _opened(opened, _make_private("sessions", state))
                self.partials = _opened(opened, _make_private("partials", state))
                self.kept = KeptPartials(self.partials)
                versions = _opened(opened, _make_private(_VERSIONS, state))
                status = os.fstat(state)
                self.files = Tree(self.root, forbidden=(status.st_dev, status.st_ino))
                self.versions = Tree(versions, new_mode=0o777)  # private, as all of .xfer is
            except BlockingIOError as error:
                raise LocalError(f"another receiver is using {directory}") from error
            except OSError as error:
                reason = f"cannot receive into {directory}: {error.strerror}"
                raise LocalError(reason) from error
            self._opened = opened.pop_all()

    def restore_versions(self) -> None:
        """Make versions/ again, if its owner has removed it or moved it away by hand.

        The descriptor keeps its number, so that all sessions use the new directory.
        OSError when that fails.
        """
        try:
            there = os.stat(_VERSIONS, dir_fd=self.state, follow_symlinks=False)
            if os.path.samestat(there, os.fstat(self.versions.root)):
                return
        except FileNotFoundError:
            pass
        made = _make_private(_VERSIONS, self.state)
        try:
            os.dup2(made, self.versions.root, inheritable=False)
        finally:
            os.close(made)

    def note_host(self, host: str) -> bytes:
        """Note that this machine sends; what is to be remembered of it, see `hosts`."""
        name = bounded(host)
        if not name or not note_host(self.state, name):
            return b""
        self.lone_host = lone_host(self.state)
        return name

    def share_locks(self) -> None:
        """Let each lock exclude all processes that call this, not only threads of this one.

        Call it after a fork, before any thread starts. OSError when that fails.
        """
        self.kept.share()
        self.installing.share(self.state, self._opened)
        changing_modes.share(self.state, self._opened)

    def remove_temporary(self, process: int) -> None:
        """Remove what a process of this receiver that was killed left under temporary names."""
        prefix = temporary_prefix(process)
        for name in map(os.fsencode, os.listdir(self.partials)):
            if name.startswith(prefix):
                remove(name, self.partials)

    def close(self) -> None:
        self._opened.close()


def _opened(stack: contextlib.ExitStack, descriptor: int) -> int:
    """`descriptor`, which is closed with `stack`."""
    stack.callback(os.close, descriptor)
    return descriptor


def _make_private(name: str, parent: int) -> int:
    """Open a directory that only its owner may enter, made or made so if it is not."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, _PRIVATE, dir_fd=parent)
        os.fsync(parent)
    descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != _PRIVATE:
        os.fchmod(descriptor, _PRIVATE)
    return descriptor


def _lock(state: int) -> int:
    """The lock file, locked. BlockingIOError when another receiver has locked it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(_LOCK, flags, 0o600, dir_fd=state)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def doubt_about(directory: int) -> str:
    """Why a flush may be in vain on an open directory's file system; empty where it is not."""
    return file_system_of(directory).doubt


def was_used(directory: str) -> bool:
    """Whether a receiver has ever used `directory`. LocalError when one uses it now.

    Makes nothing, and lets go of the lock at once.
    """
    file = os.path.join(directory, STATE_DIRECTORY, _LOCK)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LocalError(f"{file} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LocalError(f"another receiver is using {directory}") from error
    finally:
        os.close(descriptor)
    return True
