"""A job: what to send, and the attempts that it takes.

Each attempt sends what is left, over one connection or several. What can be
tried again is, after growing pauses, as long as `retries` allows. Other failures
are told at once.
"""

import contextlib
from typing import Final

from msgspec import Struct, field

from xfer.client.connect import Target, connect
from xfer.client.remaining import RemainingWork
from xfer.client.retries import Attempts, RetryFor
from xfer.client.run import FEATURE, Run, require_good
from xfer.errors import Cancelled, Code, XferError
from xfer.sending.batches import InOrder
from xfer.sending.observer import Observer
from xfer.sending.parts import Options
from xfer.sending.session import SendSession
from xfer.source import roots
from xfer.wire.channel import Channel
from xfer.wire.messages import SnapshotMade

MAX_JOB_CONNECTIONS: Final = 64
"""For one job: by default, a receiver takes 256 in all."""
_READ_ONCE: Final = "standard input cannot be read twice, so it was not tried again"


class Job(Struct, frozen=True):
    """What to send, and how. `-` among `paths` is standard input, stored as `stream_name`.

    Up to `connections` share the work. With `snapshot`, the name of a job, it becomes a
    snapshot of that.
    """

    paths: list[str]
    stream_name: str | None = None
    options: Options = field(default_factory=Options)
    retry_for: RetryFor = field(default_factory=RetryFor)
    connections: int = 1
    snapshot: str | None = None


def send_job(target: Target, job: Job, observer: Observer) -> None:
    """Send `job` to `target`, telling `observer` once how each thing ended.

    Raises UsageError or LocalError for what can be known before connecting,
    else the error that ended the last attempt early: Cancelled by the target's token.
    """
    roots.check(job.paths, job.stream_name)
    run = None if job.snapshot is None else Run(job.snapshot, job.paths)
    sending = _Sending(target, job, observer, run)
    sending.send()
    while run and not sending.commit(run):
        sending.send_again()


class _Sending:
    """The attempts at one job. Used by the thread of the job."""

    def __init__(self, target: Target, job: Job, observer: Observer, run: Run | None) -> None:
        self._target = target
        self._job = job
        self._observer = observer
        self._run = run
        self._work = RemainingWork(job.paths, job.stream_name, observer, target.cancel)
        self._attempts = Attempts(job.retry_for, observer, target.cancel)
        self._ended_by: XferError | None = None
        self._has_lost_lines = False

    def send(self) -> None:
        """Send all that is left. Raises what ended the last attempt early."""
        work = self._work
        self._attempts.run(
            self._attempt, lambda: work.made_progress, lambda: not work.stream_was_read
        )
        work.tell_failures()
        if error := self._ended_by:
            if work.stream_was_read and error.retryable and not isinstance(error, Cancelled):
                error.add(_READ_ONCE)
            raise error

    def send_again(self) -> None:
        """Offer everything once more: the receiver has lost what it knew of the run."""
        self._work.send_again()
        self.send()

    def commit(self, run: Run) -> bool:
        """Make the run a snapshot; False if everything has to be sent once more for that, once.

        Raises what stands against it, Held or Refused for a snapshot that is no good one.
        """
        made: list[SnapshotMade] = []
        is_complete = not self._work.has_failed

        def attempt() -> XferError | None:
            try:
                with contextlib.closing(self._open_channel(announce=False)) as channel:
                    made.append(
                        run.commit(
                            channel, self._work.confirmed, self._job.options.algorithm,
                            self._observer, complete=is_complete,
                        )
                    )  # fmt: skip
            except XferError as error:
                self._ended_by = error
                return error
            return None

        error = self._attempts.run(attempt, may_repeat=lambda: not self._must_send_again)
        if error:
            if self._must_send_again and self._work.stream_was_read:
                error.add(_READ_ONCE)
            elif self._must_send_again and not self._has_lost_lines:
                self._has_lost_lines = True
                return False
            raise error
        self._observer.snapshot_made(run.job, made[0])
        if is_complete:
            require_good(made[0], run.job)
        return True

    @property
    def _must_send_again(self) -> bool:
        return self._ended_by is not None and self._ended_by.code == Code.LINES_LOST

    def _open_channel(self, *, announce: bool = True) -> Channel:
        channel = connect(self._target, self._job.options.algorithm, FEATURE if self._run else "")
        self._attempts.reached()
        if self._run and announce:
            self._run.announce(channel)
        return channel

    def _attempt(self) -> XferError | None:
        """Try once to send what is left. Returns why that has to be tried again, if it has."""
        self._work.start_attempt()
        self._ended_by = None
        try:
            if self._job.connections == 1:
                session = SendSession(
                    self._open_channel(), self._job.options, self._observer, self._work
                )
                session.run(InOrder(self._work.entries()))
            else:
                self._send_in_parallel()
        except XferError as error:
            self._ended_by = error
        return self._ended_by or self._work.first_failure

    def _send_in_parallel(self) -> None:
        # Most jobs have one connection, and should not load the modules for several.
        from xfer.client.parallel.sessions import ParallelSessions  # noqa: PLC0415
        from xfer.client.parallel.work_queue import WorkQueue  # noqa: PLC0415

        queue = WorkQueue(self._work.entries(), self._job.connections, self._work)
        ParallelSessions(self._open_channel, self._job.options, self._observer, queue).run()
