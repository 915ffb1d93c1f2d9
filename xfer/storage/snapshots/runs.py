"""What a run has confirmed so far: kept until it is a snapshot, and seen by nobody before.

    DIR/.xfer/runs/KEY.RUN/run.json         what run it is, by the first session that has it
    DIR/.xfer/runs/KEY.RUN/<…>.lines        what one session has confirmed, batch after batch

A run is a client's, and its id is of the client's choice: its retries and its other
connections record for the same one, whichever thread or process has them. Each session
has a file of its own, so that none waits for another.

Each line has its checksum in front: a power cut may leave anything in its place. None of it
is flushed, which would take as long as the flush before a receipt. So a power cut may take
lines; the commit compares what is left with what the client has receipts for.
"""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Final, Self

from msgspec import Struct
from msgspec.structs import replace

from xfer.errors import Code, Refused
from xfer.storage.os_errors import refusal
from xfer.storage.posix.links import is_link_impossible
from xfer.storage.snapshots.checked_lines import checked
from xfer.storage.snapshots.lines import MAX_LINE, Decoder, NameLine, Object, Stamp, encode
from xfer.storage.snapshots.places import (
    RUNS,
    check_job,
    check_key_id,
    check_run,
    lock_in,
    new_file,
    newest_stamp,
    open_below,
    opened,
    require_job,
    run_directory,
    runs_of,
)

MOST_RUNS: Final = 1000
"""That one key may have begun and not ended: each is a directory, however little is in it."""
_MOST_DESCRIBED: Final = MAX_LINE // 2
"""Bytes: a manifest has it in its first line, with some more."""
_DESCRIPTION: Final = "run.json"
_SESSION: Final = re.compile(r"([0-9]{6,})-([0-9a-f]{8})-[0-9a-f]{16}\.lines")
"""Its number, the machine's boot that it belongs to, and what makes its name its own."""
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class RunHeader(Object, frozen=True, kw_only=True, tag="run"):
    """What run it is: see `lines.Header`, which it becomes a part of.

    `after` is the stamp of the job's newest snapshot when it began: its own will be later,
    whatever the clock says.
    """

    job: str
    directory: str = ""
    host: str = ""
    roots: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    began: Stamp
    after: str = ""


class Batch(Object, frozen=True, kw_only=True, tag="batch"):
    """The lines that follow were confirmed at this time of the machine's steady clock (ns).

    Only so is it known which of two sessions confirmed a name last: the time of day may jump.
    """

    at: int


class Session(Struct, frozen=True, order=True):
    """A file of what one session has confirmed."""

    number: int
    boot: str
    file: str


class Recorder:
    """Records what one session of a run has confirmed. Used by one thread at a time.

    While it is open, the run is not taken for one whose client has gone.
    """

    def __init__(self, directory: int, lock: int) -> None:
        """The descriptors of the run's directory and of its lock are this object's to close."""
        self._directory = directory
        self._lock = lock
        self._file: int | None = None
        self._size = 0
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, lines: Sequence[NameLine]) -> None:
        """Write these names down: they are stored, and their receipts are about to be sent.

        Refused when there is no room, or the disk fails: then none of them counts as recorded.
        """
        if not lines:
            return
        data = checked(encode([Batch(at=time.monotonic_ns()), *lines]))
        try:
            if self._file is None:
                self._file = _new_session(self._directory)
                self._size = 0
            self._append(self._file, data)
        except OSError as error:
            raise refusal(error) from error

    def _append(self, file: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            # The lines that come next must not follow half of one.
            self._file = None
            try:
                os.ftruncate(file, self._size)
            finally:
                os.close(file)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Safe twice."""
        if self._is_open:
            self._is_open = False
            if self._file is not None:
                os.close(self._file)
            os.close(self._lock)
            os.close(self._directory)


def open_run(state: int, key_id: str, run: str, header: RunHeader) -> Recorder:
    """Begin to record for a run of this key, or go on with it, below an open DIR/.xfer.

    Refused for an id, a key or a job that can't be (bad_name), for a run that another job or
    directory has (usage), for one run or job too many (quota), and when the disk fails.
    """
    check_key_id(key_id)
    check_run(run)
    check_job(header.job)
    if len(encode([header])) > _MOST_DESCRIBED:
        raise Refused("the run lists too many roots or excludes", code=Code.TOO_LARGE)
    try:
        require_job(state, key_id, header.job)  # now: when all was sent it would be too late
        name = run_directory(key_id, run)
        there = runs_of(state, key_id)
        if run not in there and len(there) >= MOST_RUNS:
            raise Refused(f"{MOST_RUNS} runs of this key have not ended", code=Code.QUOTA)
        with opened(state, RUNS, create=True) as directory:
            after = partial(newest_stamp, state, key_id, header.job)
            return _open_described(directory, name, header, after)
    except OSError as error:
        raise refusal(error) from error


def _open_described(
    directory: int, run: str, header: RunHeader, after: Callable[[], str]
) -> Recorder:
    """A recorder for the run, with its description there."""
    descriptor, lock = _open_locked(directory, run)
    recorder = Recorder(descriptor, lock)
    try:
        there = read_header(descriptor) or _describe(descriptor, replace(header, after=after()))
        if (there.job, there.directory) != (header.job, header.directory):
            raise Refused("another job has a run of this id", code=Code.USAGE)
    except BaseException:
        recorder.close()
        raise
    return recorder


def _open_locked(directory: int, run: str) -> tuple[int, int]:
    """The descriptors of the run's directory and of its lock, which sessions share."""
    while True:
        with contextlib.ExitStack() as unless_there:
            descriptor = open_below(directory, run, create=True)
            unless_there.callback(os.close, descriptor)
            try:
                lock = lock_in(descriptor, shared=True)
            except BlockingIOError as error:
                raise Refused("the run is being given up right now", code=Code.BUSY) from error
            unless_there.callback(os.close, lock)
            if _is_there(directory, run, descriptor):
                unless_there.pop_all()
                return descriptor, lock
        # It has become a snapshot, or was given up, in this moment.


def _is_there(directory: int, run: str, descriptor: int | None = None) -> bool:
    try:
        status = os.stat(run, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return descriptor is None or os.path.samestat(status, os.fstat(descriptor))


def _describe(run: int, header: RunHeader) -> RunHeader:
    """Have a description there, whole or not at all: this one, if no other session was first."""
    name, file = new_file(run)
    try:
        with open(file, "wb") as written:
            written.write(encode([header]))
        try:
            os.link(name, _DESCRIPTION, src_dir_fd=run, dst_dir_fd=run)
        except OSError as error:
            if not (isinstance(error, FileExistsError) or is_link_impossible(error)):
                raise
            if there := read_header(run):
                return there
            os.rename(name, _DESCRIPTION, src_dir_fd=run, dst_dir_fd=run)  # it was cut
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=run)
    return header


def read_header(run: int) -> RunHeader | None:
    """The description in the open directory of a run; None where a power cut has taken it."""
    try:
        descriptor = os.open(_DESCRIPTION, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=run)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file, contextlib.suppress(ValueError):
        return _HEADERS.line(file.read())
    return None


def _new_session(run: int) -> int:
    """A new file for a session. Its number says which of two came later, across a restart too."""
    number = max((session.number for session in sessions(run)), default=0) + 1
    name = f"{number:06}-{_boot()}-{secrets.token_hex(8)}.lines"
    return os.open(name, _APPEND, 0o600, dir_fd=run)


def sessions(run: int) -> list[Session]:
    """Those that have recorded something in the open directory of a run, in order. OSError."""
    found = filter(None, map(_SESSION.fullmatch, os.listdir(run)))
    return sorted(Session(int(one[1]), one[2], one[0]) for one in found)


@cache
def _boot() -> str:
    """Which boot of the machine this is: in each, its steady clock begins anew."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read(8)
    return "0" * 8


_HEADERS: Final = Decoder[RunHeader](RunHeader)
