"""The connections that share a job, each with a session in a thread of its own.

The first one is the caller's, and opens alone: whoever is turned away is so
once, whatever the reason. What happens to another is no reason to stop, as
long as trying again could help and somebody else can go on.
"""

import threading
from collections.abc import Callable

from xfer.client.parallel.work_queue import Consumer, WorkQueue
from xfer.errors import XferError
from xfer.sending.session import Options, SendSession
from xfer.wire.channel import Channel

_FAREWELL_SECONDS = 2.0
"""So long an interrupted job waits for the threads of its connections."""


class ParallelSessions:
    """Opens connections with `connect`, and has them send what is in `queue`. Use `run` once."""

    def __init__(self, connect: Callable[[], Channel], options: Options, queue: WorkQueue) -> None:
        self._connect = connect
        self._options = options
        self._queue = queue
        self._working = threading.Lock()
        self._channels: set[Channel] = set()
        self._error: XferError | None = None

    def run(self) -> None:
        """Send everything. Raises what the first connection to fail did, if it took work along."""
        channel = self._connect()
        threads: list[threading.Thread] = []
        try:
            for _ in range(self._queue.expect_connections() - 1):
                threads.append(threading.Thread(target=self._join_in, daemon=True))
                threads[-1].start()
            self._work(channel, self._queue.consumer(is_first=True))
            self._queue.wait_until_all_left()
        except BaseException:
            self._end_all(None)
            for thread in threads:
                thread.join(_FAREWELL_SECONDS)
            raise
        is_done = self._queue.is_done()
        if self._queue.ended_by:
            raise self._queue.ended_by
        if not is_done and self._error:
            raise self._error

    def _join_in(self) -> None:
        try:
            channel = self._connect()
        except XferError as error:
            self._failed(error)
            self._queue.not_coming()
        else:
            self._work(channel, self._queue.consumer())

    def _work(self, channel: Channel, consumer: Consumer | None) -> None:
        if consumer is None:
            channel.close()
            return
        self._channels.add(channel)
        try:
            SendSession(channel, self._options, consumer).run(consumer)
        except XferError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 (raised where somebody can catch it)
            self._failed(XferError(f"internal error: {error!r}"))
        finally:
            self._channels.discard(channel)
            consumer.close()

    def _failed(self, error: XferError) -> None:
        with self._working:
            self._error = self._error or error
        if not error.retryable:
            error.ends_session = True
            self._end_all(error)

    def _end_all(self, error: XferError | None) -> None:
        self._queue.end(error)
        for channel in list(self._channels):
            channel.abort()
