"""Runs of a client, and the snapshots that they become.

S→R run        first in each session of it: what follows belongs to this run
S→R commit     the only message of a session of its own, once the run is over
R→S snapshot   what it has become; asked for twice, the answer is the same
"""

from typing import Annotated, Final

from msgspec import Meta

from xfer.wire.messages.base import Message
from xfer.wire.messages.fields import Algorithm, JobName, RunId, Size, Stamp, Text

MAX_LISTED: Final = 256
Listed = Annotated[tuple[Text, ...], Meta(max_length=MAX_LISTED)]


class Run(Message, frozen=True, tag="run"):
    """Sender: this session is one of a run, of this job.

    `roots` and `excludes` are what was to be sent and left out, for people to read.
    """

    run: RunId
    job: JobName
    roots: Listed = ()
    excludes: Listed = ()


class Commit(Message, frozen=True, tag="commit"):
    """Sender: the run is over; `names` is how many different names it has receipts or skips for.

    Without `complete`, something failed, and the snapshot is not to count as a good one.
    `digest` is for files that were skipped and whose digest is not known.
    """

    run: RunId
    job: JobName
    names: Size
    complete: bool = False
    digest: Algorithm = "md5"


class SnapshotMade(Message, frozen=True, tag="snapshot"):
    """Receiver: the run is this snapshot now, on stable storage.

    It `held` is not complete: so much of the job is gone or changed that somebody should
    look. `new`, `changed` and `gone` names are counted against the complete one before it.
    `lost` are names, the first of them, whose content the receiver did not find any more.
    """

    stamp: Stamp
    complete: bool
    names: Size
    files: Size = 0
    bytes: Size = 0
    new: Size = 0
    changed: Size = 0
    gone: Size = 0
    held: bool = False
    lost: Listed = ()
