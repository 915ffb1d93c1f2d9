"""Several processes that receive together: `xfer receive --workers N`.

The parent has opened everything: the store with its lock, the identity, the
keys, the socket. Then it forks the workers, before there is any thread, and
from there on only watches: it answers nobody, and touches no file.

- Workers heed no SIGTERM or SIGINT: a terminal or a service manager may send
  these to all processes at once. They stop when the parent says so.
- The parent says so by closing a pipe. Another one is closed when the parent is
  gone, however that came about: then a worker ends at once, as a receiver does
  that is killed itself. What has a receipt is on the disk.
- A worker that ends unasked is replaced, not more than once a second.
- SIGHUP is passed on.
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

log = logging.getLogger("xfer.receiver")

_PAUSE_SECONDS: Final = 1.0
"""At least, between two starts of workers of one number."""
_PATIENCE_SECONDS: Final = STOPPING_SECONDS + 10.0
"""After which a worker that was told to stop is killed."""
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)
_WATCHED: Final = (*_STOPS, signal.SIGCHLD, signal.SIGALRM)


class _Worker(Struct):
    """One number, and the process that has it now; 0 while there is none."""

    number: int
    process: int = 0
    predecessor: int | None = None
    started_at: float = -_PAUSE_SECONDS


class Supervisor:
    """The workers of `receiver`, which serves nobody in this process.

    From here on the signals that stop it wait for `run`. UsageError when it
    can't be for several, see `Receiver.prepare_fork`.
    """

    def __init__(self, receiver: Receiver, workers: int, *, reloads: bool) -> None:
        receiver.prepare_fork(workers)
        self._receiver = receiver
        self._reloads = reloads
        self._workers = [_Worker(number) for number in range(workers)]
        self._waited_for = {*_WATCHED, *((signal.SIGHUP,) if reloads else ())}
        signal.signal(signal.SIGCHLD, _ignore)  # it may be inherited as to be thrown away
        signal.signal(signal.SIGALRM, _ignore)
        signal.pthread_sigmask(signal.SIG_BLOCK, self._waited_for)
        self._stop, self._stop_held_open = os.pipe()
        self._parent, self._parent_held_open = os.pipe()

    def run(self, manager: ServiceManager) -> None:
        """Have it served until a signal says that it is enough, and all have ended.

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
        os.close(self._stop_held_open)
        self._wait_for_all()

    # The parent

    def _watch(self) -> None:
        """Until a signal to stop."""
        while (number := signal.sigwait(self._waited_for)) not in _STOPS:
            if number == signal.SIGHUP:
                self._tell_all(signal.SIGHUP)
            self._replace_ended()

    def _replace_ended(self) -> None:
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
        """A second signal ends this process at once, and with it all of them."""
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_SECONDS)
        while self._reap_all():
            number = signal.sigwait(self._waited_for)
            if number in _STOPS:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
            if number == signal.SIGALRM:
                self._tell_all(signal.SIGKILL)

    def _reap_all(self) -> bool:
        """Whether somebody is still there."""
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
        """All that a process does that was just forked."""
        code = 1
        try:
            os.close(self._stop_held_open)
            os.close(self._parent_held_open)
            for number in _STOPS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            self._receiver.after_fork(worker.number, worker.predecessor)
            threading.Thread(target=self._obey, daemon=True).start()
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

    def _obey(self) -> None:
        """Stop when the parent says so; end with it."""
        poller = select.poll()
        for descriptor in (self._stop, self._parent):
            poller.register(descriptor, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poller.poll()]
            if self._parent in ready:
                os._exit(1)
            poller.unregister(self._stop)
            self._receiver.stop()


def _ignore(*_: object) -> None:
    """A handler that does nothing keeps a signal from being thrown away."""
