"""From a run to a snapshot: once, whole, and on stable storage before anybody is told.

    0. lock      the job's directory: one commit of a job at a time, in any process
    1. look      has this run become a snapshot already? then that is the answer
    2. write     a manifest under a temporary name (see `draft`)
    3. compare   fewer names than the client has receipts for? refused, nothing has changed
    4. move      names that are gone to versions, if that is asked for
    5. flush     the manifest
    6. link      it to its name, its stamp, which is later than all before it
    7. flush     its directory, and those above
    8. remove    the run

Killed anywhere, the same commit asked for once more does what is left of it: up to 6
there is no snapshot, and the run is as it was; from then on there is one, and step 1
finds it, by the run's id in its header.
"""

import contextlib

from msgspec import Struct

from xfer import digests
from xfer.errors import Code, Refused
from xfer.storage.os_errors import refusal
from xfer.storage.snapshots.digesting import Digester
from xfer.storage.snapshots.draft import Rules
from xfer.storage.snapshots.errors import LinesLost
from xfer.storage.snapshots.given_up import end_run, give_up_older
from xfer.storage.snapshots.hashing import Beat, Pulse
from xfer.storage.snapshots.job import Committed, JobDirectory
from xfer.storage.snapshots.making import Backing, Maker, header_of
from xfer.storage.snapshots.places import (
    RUNS,
    check_job,
    check_key_id,
    check_run,
    opened,
    run_directory,
)
from xfer.storage.snapshots.runs import RunHeader, read_header


class Request(Struct, frozen=True, kw_only=True):
    """What a client asks for when its run is over: see `draft.Rules`.

    `names` is how many distinct names it holds receipts for, those of skipped files included.
    Digests that nobody knows are computed with `algorithm`.
    """

    key_id: str
    job: str
    run: str
    names: int
    rules: Rules = Rules()
    algorithm: str = digests.DEFAULT


def commit(backing: Backing, request: Request, beat: Beat) -> Committed:
    """Make a run a snapshot, or say what it became when this was asked for before.

    `beat` is called while this takes long: see `hashing.Beat`. What it raises ends the
    commit, and the run stays. Refused when it can't be made: LinesLost to send the run once
    more, otherwise with a code as for files.
    """
    check_key_id(request.key_id)
    check_job(request.job)
    check_run(request.run)
    pulse = Pulse(beat)
    try:
        with JobDirectory(backing.state, request.key_id, request.job, pulse) as job:
            if done := job.find(request.run, _begun_after(backing, request)):
                job.flush_names(backing.flusher)  # whoever placed it may have been killed
                end_run(backing.state, request.key_id, request.run)
            else:
                done = _made(backing, request, job, pulse)
    except OSError as error:
        raise refusal(error) from error
    return done


def _begun_after(backing: Backing, request: Request) -> str:
    """See `runs.RunHeader`; empty where the run is not there, or a power cut took that."""
    try:
        with _opened_run(backing, request) as run:
            described = read_header(run)
    except FileNotFoundError:
        return ""
    return described.after if described else ""


def _made(backing: Backing, request: Request, job: JobDirectory, pulse: Pulse) -> Committed:
    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(_opened_run(backing, request))
        except FileNotFoundError as error:
            raise LinesLost(0, request.names) from error
        described = _described(run, request)
        maker = Maker(backing, job, Digester(backing.contents, request.algorithm, pulse), pulse)
        header = header_of(described, job, request.run)
        made = maker.make(run, header, request.rules, request.names)
    end_run(backing.state, request.key_id, request.run)
    give_up_older(backing, job, described.began, pulse)
    return made


def _opened_run(backing: Backing, request: Request) -> contextlib.AbstractContextManager[int]:
    return opened(backing.state, RUNS, run_directory(request.key_id, request.run))


def _described(run: int, request: Request) -> RunHeader:
    described = read_header(run)
    if described is None:
        raise LinesLost(0, request.names)
    if described.job != request.job:
        raise Refused(f"it is a run of the job {described.job}", code=Code.USAGE)
    return described
