"""Where runs and snapshots are, below an open DIR/.xfer, and how their directories are opened.

    runs/KEY.RUN/                                     see `runs`
    snapshots/KEY/JOB/STAMP.jsonl.gz                  a complete snapshot
    snapshots/KEY/JOB/STAMP.incomplete.jsonl.gz       one that ended, and of which something failed

All directories are private (0700). None is entered through a link.
"""

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from xfer.errors import Code, Refused
from xfer.names import STATE_DIRECTORY
from xfer.storage.snapshots.stamps import is_stamp

RUNS: Final = "runs"
SNAPSHOTS: Final = "snapshots"
MOST_JOBS: Final = 1000
"""That one key may have snapshots of: `get --at` reads of all of them at once."""
TEMPORARY: Final = ".tmp-"
"""Begins all names that mean nothing once their process is gone."""
_LOCK: Final = ".lock"
_COMPLETE: Final = ".jsonl.gz"
_INCOMPLETE: Final = ".incomplete.jsonl.gz"
_JOB: Final = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,64}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RUN: Final = re.compile(r"[0-9a-f]{32}")
_PRIVATE: Final = 0o700
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check_job(job: str) -> str:
    """`job` unchanged. Refused (bad_name) for what is no name of a job."""
    if not _JOB.fullmatch(job):
        reason = "a job is 1 to 64 letters, digits, _, - and ., and begins with no dot"
        raise Refused(reason, code=Code.BAD_NAME)
    return job


def check_run(run: str) -> str:
    """`run` unchanged. Refused (bad_name) for what is no id of a run."""
    if not _RUN.fullmatch(run):
        raise Refused("a run's id is 32 hexadecimal digits", code=Code.BAD_NAME)
    return run


def check_key_id(key_id: str) -> str:
    """`key_id` unchanged. Refused (bad_name) for what no key can be called."""
    if not _KEY_ID.fullmatch(key_id):
        raise Refused("a key id is 1 to 64 letters, digits, _ and -", code=Code.BAD_NAME)
    return key_id


class Placed(Struct, frozen=True, order=True):
    """A manifest as its name says: when it was completed, by which key and job, and if it was."""

    stamp: str
    key_id: str
    job: str
    is_complete: bool

    @property
    def file(self) -> str:
        return self.stamp + (_COMPLETE if self.is_complete else _INCOMPLETE)

    @property
    def path(self) -> str:
        """Below DIR, to name it by."""
        return f"{STATE_DIRECTORY}/{SNAPSHOTS}/{self.key_id}/{self.job}/{self.file}"


@contextlib.contextmanager
def opened(state: int, *components: str, create: bool = False) -> Iterator[int]:
    """The directory of these components, open; made where missing, if `create`. OSError."""
    current = os.dup(state)
    try:
        for component in components:
            below = open_below(current, component, create=create)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def open_below(directory: int, name: str, *, create: bool = False) -> int:
    """The descriptor of a private directory, made (not flushed) if it is missing. OSError."""
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _PRIVATE, dir_fd=directory)
    return os.open(name, _DIRECTORY, dir_fd=directory)


def require_job(state: int, key_id: str, job: str) -> None:
    """Refused (quota) for a job that would be one too many. OSError as above."""
    there = listed(state, SNAPSHOTS, key_id)
    if len(there) >= MOST_JOBS and job not in there:
        raise Refused(f"this key has snapshots of {MOST_JOBS} jobs already", code=Code.QUOTA)


def keys_and_jobs(state: int) -> Iterator[tuple[str, str]]:
    """All that have snapshots, sorted. OSError when the directories can't be read."""
    for key_id in listed(state, SNAPSHOTS):
        if _KEY_ID.fullmatch(key_id):
            for job in listed(state, SNAPSHOTS, key_id):
                if _JOB.fullmatch(job):
                    yield key_id, job


def run_directory(key_id: str, run: str) -> str:
    """The name in runs/ of what a key's run has confirmed; no key id has a dot."""
    return f"{key_id}.{run}"


def keys_and_runs(state: int) -> Iterator[tuple[str, str]]:
    """All that have not become snapshots, sorted. OSError as above."""
    for name in listed(state, RUNS):
        key_id, _, run = name.rpartition(".")
        if _KEY_ID.fullmatch(key_id) and _RUN.fullmatch(run):
            yield key_id, run


def runs_of(state: int, key_id: str) -> list[str]:
    """Those of one key, sorted; what is being removed is none any more. OSError as above."""
    return [run for key, run in keys_and_runs(state) if key == key_id]


def listed(state: int, *components: str) -> list[str]:
    """The names in a directory, sorted; none where there is no such directory. OSError."""
    try:
        with opened(state, *components) as directory:
            return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def manifests(state: int, key_id: str, job: str) -> list[Placed]:
    """Of one job, the oldest first. Other names in its directory are nobody's. OSError."""
    found = (_placed(file, key_id, job) for file in listed(state, SNAPSHOTS, key_id, job))
    return sorted(filter(None, found))


def newest_stamp(state: int, key_id: str, job: str) -> str:
    """That of the newest manifest of one job; empty where there is none. OSError."""
    files = reversed(listed(state, SNAPSHOTS, key_id, job))
    return next((one.stamp for file in files if (one := _placed(file, key_id, job))), "")


def _placed(file: str, key_id: str, job: str) -> Placed | None:
    stamp, _, ending = file.partition(".jsonl")
    is_complete = not stamp.endswith(".incomplete")
    stamp = stamp.removesuffix(".incomplete")
    return Placed(stamp, key_id, job, is_complete) if ending == ".gz" and is_stamp(stamp) else None


def open_manifest(state: int, placed: Placed) -> io.BufferedReader:
    """OSError when there is none, or something that is no plain file has its name."""
    with opened(state, SNAPSHOTS, placed.key_id, placed.job) as directory:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(placed.file, flags, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file")
    return open(descriptor, "rb")


def lock_in(directory: int, *, shared: bool = False) -> int:
    """The descriptor of an open directory's lock file, locked until it is closed.

    BlockingIOError when somebody holds it. A directory itself can't be locked everywhere:
    NFS wants a file that is open for writing.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(_LOCK, flags, 0o600, dir_fd=directory)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def new_file(directory: int) -> tuple[str, int]:
    """A new temporary name in an open directory, and the descriptor of its file. OSError."""
    name = TEMPORARY + secrets.token_hex(16)
    return name, os.open(name, _NEW, 0o600, dir_fd=directory)


def remove_temporary(directory: int) -> None:
    """Remove what processes that were killed left in an open directory. OSError."""
    for name in os.listdir(directory):
        if name.startswith(TEMPORARY):
            _remove(directory, name)


def remove_directory(directory: int, name: str) -> None:
    """Remove a directory of files from an open one: first its name, so that none is seen of it.

    It may be gone. OSError when something can't be removed.
    """
    aside = TEMPORARY + secrets.token_hex(16)
    with contextlib.suppress(FileNotFoundError):
        os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
        _remove(directory, aside)


def _remove(directory: int, name: str) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
    except (IsADirectoryError, PermissionError):  # the latter outside Linux
        with opened(directory, name) as below:
            for file in os.listdir(below):
                os.unlink(file, dir_fd=below)
        os.rmdir(name, dir_fd=directory)
