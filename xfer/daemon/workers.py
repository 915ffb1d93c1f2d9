"""Several processes that receive together: `xfer receive --workers N`.

The supervisor has opened everything: the store with its lock, the identity, the
keys, the socket. It forks the workers before it has any thread, and from then on
only watches them: it serves no connection and touches no file.

    signals ──► supervisor ──(closes the stop pipe)──► each worker stops its receiver
                    │ └─────(dies: the alive pipe closes)──► each worker ends at once
                    └──(SIGHUP)──► each worker reads its keys again

- Workers ignore SIGTERM and SIGINT, which a terminal or a service manager may send
  to all processes at once: only the supervisor says when to stop.
- When the supervisor is gone, however that came about, a worker ends at once, as a
  receiver does that is killed itself. What has a receipt is on the disk.
- A worker that ends without being told to is replaced, once a second at most.
"""

import logging
import os
import select
import signal
import threading
import time
from typing import Final, NoReturn

from msgspec import Struct

from xfer import logs
from xfer.daemon import foreground
from xfer.daemon.systemd import READY, STOPPING, ServiceManager
from xfer.errors import LocalError, XferError
from xfer.server.receiver import Receiver
from xfer.server.server import STOPPING_SECONDS
from xfer.server.settings import ReceiverSettings

log = logging.getLogger("xfer.receiver")

_PAUSE_SECONDS: Final = 1.0
"""Between two starts of workers of one number, at least."""
_KILL_SECONDS: Final = STOPPING_SECONDS + 10.0
"""After so long, a worker that was told to stop is killed."""
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)
_WATCHED: Final = (*_STOPS, signal.SIGCHLD, signal.SIGALRM)


class _Worker(Struct):
    """A worker's number, and the process that has it now; 0 while there is none."""

    number: int
    process: int = 0
    predecessor: int | None = None
    started_at: float = -_PAUSE_SECONDS


class Supervisor:
    """Runs the workers of `receiver`, which serves no connection in this process.

    From here on, the signals that stop it stay pending until `run`. UsageError for
    settings that only one process can keep, see `Receiver.prepare_fork`.
    """

    def __init__(self, receiver: Receiver, settings: ReceiverSettings) -> None:
        receiver.prepare_fork(settings.workers)
        self._receiver = receiver
        self._reloads = settings.keys is not None
        self._workers = [_Worker(number) for number in range(settings.workers)]
        self._waited_for = {*_WATCHED, *((signal.SIGHUP,) if self._reloads else ())}
        # A parent may have left SIGCHLD ignored, and an ignored signal is never pending.
        signal.signal(signal.SIGCHLD, _ignore)
        signal.signal(signal.SIGALRM, _ignore)
        signal.pthread_sigmask(signal.SIG_BLOCK, self._waited_for)
        # Read by the workers. The writing ends are open in this process only: closing
        # the first tells the workers to stop, and this process's end closes both.
        self._stop_pipe, self._stop_writer = os.pipe()
        self._alive_pipe, self._alive_writer = os.pipe()

    def run(self, manager: ServiceManager) -> None:
        """Start the workers; return when a signal has stopped them and all have ended.

        LocalError when there can't be as many processes.
        """
        for worker in self._workers:
            try:
                self._start(worker)
            except OSError as error:
                raise LocalError(f"cannot start a worker: {error.strerror}") from error
        logs.tell(
            f"{len(self._workers)} workers receive", "workers",
            workers=[worker.process for worker in self._workers],
        )  # fmt: skip
        manager.tell(READY)
        self._watch()
        manager.tell(STOPPING)
        logs.tell("stopping: what is arriving may finish", "stopping")
        os.close(self._stop_writer)
        self._wait_for_all()

    # The supervisor's own process

    def _watch(self) -> None:
        """Replace workers and pass SIGHUP on, until a signal to stop."""
        while (number := signal.sigwait(self._waited_for)) not in _STOPS:
            if number == signal.SIGHUP:
                self._tell_all(signal.SIGHUP)
            self._replace_ended()

    def _replace_ended(self) -> None:
        """Start what may be started now. SIGALRM comes when the next one may."""
        self._reap()
        now = time.monotonic()
        starts_at = [
            worker.started_at + _PAUSE_SECONDS for worker in self._workers if not worker.process
        ]
        for worker in self._workers:
            if not worker.process and worker.started_at + _PAUSE_SECONDS <= now:
                try:
                    self._start(worker)
                except OSError as error:
                    log.warning(
                        "cannot start a worker: %s", error.strerror, extra=logs.about("no_worker")
                    )
        if starts_at:
            signal.setitimer(signal.ITIMER_REAL, max(min(starts_at) - now, 0.0) + 0.01)

    def _reap(self, *, are_stopping: bool = False) -> None:
        """Note and log which workers have ended."""
        for worker in self._workers:
            if not worker.process:
                continue
            process, status = os.waitpid(worker.process, os.WNOHANG)
            if not process:
                continue
            worker.process, worker.predecessor = 0, process
            code = os.waitstatus_to_exitcode(status)
            if code or not are_stopping:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
                then = "" if are_stopping else ": another one takes its place"
                log.warning(
                    "worker %d (process %d) %s%s", worker.number, process, how, then,
                    extra=logs.about("worker_ended", worker=worker.number, process=process),
                )  # fmt: skip

    def _wait_for_all(self) -> None:
        """Until all workers have ended. A second signal ends this process at once, and so all."""
        signal.setitimer(signal.ITIMER_REAL, _KILL_SECONDS)
        while self._reap_all():
            number = signal.sigwait(self._waited_for)
            if number in _STOPS:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
            if number == signal.SIGALRM:
                self._tell_all(signal.SIGKILL)

    def _reap_all(self) -> bool:
        """Whether a worker is still there."""
        self._reap(are_stopping=True)
        return any(worker.process for worker in self._workers)

    def _tell_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.process:
                os.kill(worker.process, number)

    def _start(self, worker: _Worker) -> None:
        worker.started_at = time.monotonic()
        process = os.fork()
        if not process:
            self._work(worker)
        worker.process = process

    # A worker

    def _work(self, worker: _Worker) -> NoReturn:
        """Everything that a worker's process does, from the fork to its end."""
        code = 1
        try:
            os.close(self._stop_writer)
            os.close(self._alive_writer)
            for number in _STOPS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            self._receiver.after_fork(worker.number, worker.predecessor)
            threading.Thread(target=self._follow_supervisor, daemon=True).start()
            if self._reloads:
                foreground.reload_on_hang_up(self._receiver)
            with self._receiver:
                self._receiver.serve_forever()
            code = 0
        except XferError as error:
            log.warning("%s", error.message, extra=logs.about("worker_failed", code=error.code))
        except Exception:
            log.exception("worker %d failed", worker.number, extra=logs.about("internal_error"))
        finally:
            os._exit(code)

    def _follow_supervisor(self) -> None:
        """Stop when it says so, end when it is gone. Runs in a thread of its own."""
        poller = select.poll()
        for descriptor in (self._stop_pipe, self._alive_pipe):
            poller.register(descriptor, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poller.poll()]
            if self._alive_pipe in ready:
                os._exit(1)
            poller.unregister(self._stop_pipe)
            self._receiver.stop()


def _ignore(*_: object) -> None:
    """A handler: unlike an ignored signal, one that has a handler stays pending."""
