"""A run: all sessions of a job that becomes a snapshot, and the commit that makes it one.

    session 1 … n   Run, then what any send says     each connection, each attempt
    at the end      Commit  ──▶  SnapshotMade        a session of its own

The receiver writes down what it confirms in sessions of the run. If a power cut takes
some of that, the commit says so, and everything is offered once more.
"""

import re
import secrets
from collections.abc import Sequence
from typing import Final

from xfer.errors import Code, Held, Refused, UsageError
from xfer.sending.observer import Observer
from xfer.wire import messages
from xfer.wire.channel import Channel, expected
from xfer.wire.messages import Commit, Done, SnapshotMade, Working
from xfer.wire.messages.snapshots import MAX_LISTED

FEATURE: Final = "snapshots"
_JOB: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class Run:
    """The run of one job. `announce` is called in the thread of any connection."""

    def __init__(self, job: str, roots: Sequence[str]) -> None:
        """UsageError for a job name that can't be one."""
        if not _JOB.fullmatch(job):
            raise UsageError("a job's name has 1 to 64 letters, digits, _, - and . (not first)")
        self.job = job
        self._id = secrets.token_hex(16)
        self._roots = tuple(roots[:MAX_LISTED])

    def announce(self, channel: Channel) -> None:
        """Say that the session that begins is one of this run."""
        channel.send(messages.Run(self._id, self.job, self._roots))
        channel.flush()

    def commit(
        self, channel: Channel, names: int, algorithm: str, observer: Observer, *, complete: bool
    ) -> SnapshotMade:
        """Have the run become a snapshot of so many names, and return what it has become."""
        channel.send(Commit(self._id, self.job, names, complete, algorithm))
        channel.flush()
        while isinstance(message := channel.receive(), Working):
            observer.waiting(message.file_name or self.job, message.done, message.size)
        made = expected(message, SnapshotMade)
        channel.expect(Done)
        return made


def require_good(made: SnapshotMade, job: str) -> None:
    """Held or Refused for a snapshot that is no good one, although its run went well."""
    if made.held:
        raise Held(
            f"the snapshot {job} {made.stamp} is held: {made.gone} names of the one before are "
            f"gone, and {made.changed} changed; look at the source, and at the receiver"
        )
    if made.lost:
        others = f" and {len(made.lost) - 1} more" if len(made.lost) > 1 else ""
        raise Refused(
            f"the snapshot {job} {made.stamp} is incomplete: the receiver does not find the "
            f"content of {made.lost[0]}{others} any more",
            code=Code.STORAGE,
        )
