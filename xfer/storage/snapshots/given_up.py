"""Runs whose client did not come back: kept as incomplete snapshots, shown, never good ones.

A run is given up after a day in which nothing was recorded for it, or an hour if a later run
of its job has become a snapshot: a client tries again for a quarter of one. Never while a
session of it is open. Should its client come back all the same, it finds a new run under its
old id, and sends what that lacks.
"""

import contextlib
import os
import time
from typing import Final

from xfer import digests
from xfer.errors import Refused
from xfer.storage.snapshots.digesting import Digester
from xfer.storage.snapshots.draft import Rules
from xfer.storage.snapshots.hashing import Pulse
from xfer.storage.snapshots.job import JobDirectory
from xfer.storage.snapshots.making import Backing, Maker, header_of
from xfer.storage.snapshots.places import (
    RUNS,
    keys_and_runs,
    lock_in,
    opened,
    remove_directory,
    remove_temporary,
    run_directory,
    runs_of,
)
from xfer.storage.snapshots.runs import read_header, sessions

DAY_SECONDS: Final = 86_400.0
_AWAY_SECONDS: Final = 3600.0
_GIVEN_UP: Final = Rules(complete=False)


def end_run(state: int, key_id: str, run: str) -> None:
    """Remove what was recorded: it is a snapshot. What can't be removed now goes with `tidy`."""
    with contextlib.suppress(OSError), opened(state, RUNS) as runs:
        remove_directory(runs, run_directory(key_id, run))


def tidy(backing: Backing, seconds: float = DAY_SECONDS) -> None:
    """Give up all runs for which nothing was recorded for so long. OSError or Refused.

    One of which that can't be done keeps no other; what stands against the last is raised.
    Remove what processes that were killed left in runs/.
    """
    failed: OSError | Refused | None = None
    for key_id, run in list(keys_and_runs(backing.state)):
        try:
            _give_up_stale(backing, key_id, run, seconds)
        except (FileNotFoundError, BlockingIOError):
            pass  # ended, or under way
        except (OSError, Refused) as error:
            failed = error
    with contextlib.suppress(OSError), opened(backing.state, RUNS) as runs:
        remove_temporary(runs)
    if failed:
        raise failed


def _give_up_stale(backing: Backing, key_id: str, run: str, seconds: float) -> None:
    with opened(backing.state, RUNS, run_directory(key_id, run)) as directory:
        if time.time() - _changed_at(directory) < seconds:
            return
        described = read_header(directory)
    if described is None:  # a power cut has taken what job it was of
        end_run(backing.state, key_id, run)
        return
    with JobDirectory(backing.state, key_id, described.job) as job:
        _give_up(backing, job, run, _no_pulse())


def give_up_older(backing: Backing, job: JobDirectory, began: str, pulse: Pulse) -> None:
    """Give up the other runs of a job, locked, begun before this stamp and left for an hour."""
    for run in runs_of(backing.state, job.key_id):
        with contextlib.suppress(OSError, Refused):  # left to `tidy`
            with opened(backing.state, RUNS, run_directory(job.key_id, run)) as directory:
                described = read_header(directory)
                is_left = time.time() - _changed_at(directory) > _AWAY_SECONDS
            if is_left and described and described.job == job.job and described.began < began:
                _give_up(backing, job, run, pulse)


def _give_up(backing: Backing, job: JobDirectory, run: str, pulse: Pulse) -> None:
    """BlockingIOError while a session of it is open."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(opened(backing.state, RUNS, run_directory(job.key_id, run)))
        stack.callback(os.close, lock_in(directory))
        described = read_header(directory)
        if described and sessions(directory) and not job.find(run, described.after):
            digester = Digester(None, digests.DEFAULT, pulse)
            header = header_of(described, job, run, abandoned=True)
            Maker(backing, job, digester, pulse).make(directory, header, _GIVEN_UP)
        end_run(backing.state, job.key_id, run)


def _changed_at(directory: int) -> float:
    """When something was last recorded (seconds since 1970)."""
    files = [session.file for session in sessions(directory)]
    times = [os.stat(file, dir_fd=directory).st_mtime for file in files]
    return max([os.fstat(directory).st_mtime, *times])


def _no_pulse() -> Pulse:
    return Pulse(lambda _done, _size: None)
