"""A job: what to send, and the attempts that it takes.

Each attempt sends what is left, over one connection or several. What can be
tried again is, after growing pauses, as long as `retries` allows. Other failures
are told at once.
"""

import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from xfer.client.connect import Target, connect
from xfer.client.remaining import RemainingWork
from xfer.client.retries import Retries, RetryFor
from xfer.errors import Cancelled, XferError
from xfer.sending.batches import InOrder
from xfer.sending.observer import Observer
from xfer.sending.parts import Options
from xfer.sending.session import SendSession
from xfer.source import roots
from xfer.wire.channel import Channel

MAX_JOB_CONNECTIONS: Final = 64
"""For one job: by default, a receiver takes 256 in all."""


class Job(Struct, frozen=True):
    """What to send, and how. `-` among `paths` is standard input, stored as `stream_name`.

    Up to `connections` share the work.
    """

    paths: list[str]
    stream_name: str | None = None
    options: Options = field(default_factory=Options)
    retry_for: RetryFor = field(default_factory=RetryFor)
    connections: int = 1


def send_job(target: Target, job: Job, observer: Observer) -> None:
    """Send `job` to `target`, telling `observer` once how each thing ended.

    Raises UsageError or LocalError for what can be known before connecting,
    else the error that ended the last attempt early: Cancelled by the target's token.
    """
    roots.check(job.paths, job.stream_name)
    work = RemainingWork(job.paths, job.stream_name, observer, target.cancel)
    sleep = target.cancel.wait if target.cancel else time.sleep
    retries = Retries(job.retry_for)

    def open_channel() -> Channel:
        channel = connect(target, job.options.algorithm)
        retries.reached()
        return channel

    while True:
        ended_by = _attempt(open_channel, job, work, observer)
        error = ended_by or work.first_failure
        if error is None:
            return
        if isinstance(error, Cancelled):
            break
        pause = retries.next_pause(made_progress=work.made_progress)
        if work.stream_was_read or not error.retryable or pause is None:
            break
        observer.pausing(error, pause, retries.seconds_left)
        sleep(pause)
    work.tell_failures()
    if ended_by:
        if work.stream_was_read and ended_by.retryable and not isinstance(ended_by, Cancelled):
            ended_by.add("standard input cannot be read twice, so it was not tried again")
        raise ended_by


def _attempt(
    open_channel: Callable[[], Channel], job: Job, work: RemainingWork, observer: Observer
) -> XferError | None:
    """Try once to send what is left. Returns what ended the attempt early, if anything did."""
    work.start_attempt()
    try:
        if job.connections == 1:
            session = SendSession(open_channel(), job.options, observer, work)
            session.run(InOrder(work.entries()))
        else:
            # Most jobs have one connection, and should not load the modules for several.
            from xfer.client.parallel.sessions import ParallelSessions  # noqa: PLC0415
            from xfer.client.parallel.work_queue import WorkQueue  # noqa: PLC0415

            queue = WorkQueue(work.entries(), job.connections, work)
            ParallelSessions(open_channel, job.options, observer, queue).run()
    except XferError as error:
        return error
    return None
