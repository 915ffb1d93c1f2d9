"""The connections that share a job, each with a session in a thread of its own.

    caller's thread ──▶ connect ──▶ Consumer ──▶ SendSession ─┐
    thread 2 … N    ──▶ connect ──▶ Consumer ──▶ SendSession ─┴──▶ wait_until_all_left

The first connection opens alone, so that a wrong secret, for example, is
tried once and not N times. When another one fails, the job goes on, unless
trying again could not help.
"""

import threading
from collections.abc import Callable

from xfer.client.parallel.consumer import Consumer
from xfer.client.parallel.work_queue import WorkQueue
from xfer.errors import XferError
from xfer.sending.observer import ProgressSink
from xfer.sending.parts import Options
from xfer.sending.session import SendSession
from xfer.wire.channel import Channel

_JOIN_SECONDS = 2.0
"""How long an interrupted job waits for each of its threads."""


class ParallelSessions:
    """Opens connections with `connect`, and has them send what is in `queue`. Use `run` once."""

    def __init__(
        self,
        connect: Callable[[], Channel],
        options: Options,
        progress: ProgressSink,
        queue: WorkQueue,
    ) -> None:
        self._connect = connect
        self._options = options
        self._progress = progress
        self._queue = queue
        self._lock = threading.Lock()
        """Guards what follows, which every connection's thread changes."""
        self._channels: set[Channel] = set()
        self._error: XferError | None = None
        """What the first connection to fail raised."""

    def run(self) -> None:
        """Send everything. Raises what ended the job, or lost a part of it, first."""
        channel = self._connect()
        threads: list[threading.Thread] = []
        try:
            for _ in range(self._queue.expect_connections() - 1):
                threads.append(threading.Thread(target=self._run_another, daemon=True))
                threads[-1].start()
            self._run_session(channel, is_first=True)
            self._queue.wait_until_all_left()
        except BaseException:
            self._end_all(None)
            for thread in threads:
                thread.join(_JOIN_SECONDS)
            raise
        is_done = self._queue.is_done()
        with self._queue.changed, self._lock:  # a connection that is late may still fail
            error = self._queue.ended_by or (None if is_done else self._error)
        if error:
            raise error

    def _run_another(self) -> None:
        try:
            channel = self._connect()
        except XferError as error:
            self._fail(error)
            self._queue.cancel_expected()
        else:
            self._run_session(channel, is_first=False)

    def _run_session(self, channel: Channel, *, is_first: bool) -> None:
        with self._lock:  # before it joins: an end of the job is noticed here or there
            self._channels.add(channel)
        try:
            if self._queue.join():
                self._send(channel, Consumer(self._queue, is_first=is_first))
            else:
                channel.close()
        finally:
            with self._lock:
                self._channels.discard(channel)

    def _send(self, channel: Channel, consumer: Consumer) -> None:
        try:
            SendSession(channel, self._options, self._progress, consumer).run(consumer)
        except XferError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (raised again by `run`)
            self._fail(XferError(f"internal error: {error!r}"))
        finally:
            consumer.close()

    def _fail(self, error: XferError) -> None:
        with self._lock:
            self._error = self._error or error
        if not error.retryable:
            self._end_all(error)

    def _end_all(self, error: XferError | None) -> None:
        self._queue.end(error)
        with self._lock:
            channels = list(self._channels)
        for channel in channels:
            channel.abort()
