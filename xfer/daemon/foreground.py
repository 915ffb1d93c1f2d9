"""What `xfer receive` does around its receiver in one process: signals, announcements, serving."""

import logging
import signal
import socket
import threading
from types import FrameType

from xfer import logs
from xfer.config.addresses import format_address
from xfer.config.defaults import DEFAULT_PORT
from xfer.config.sizes import counted
from xfer.daemon.systemd import READY, STOPPING, ServiceManager
from xfer.server.receiver import Receiver
from xfer.server.settings import ReceiverSettings


def block_hang_ups() -> None:
    """Keep SIGHUP pending, for `reload_on_hang_up` to take, in threads that start later too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])


def handle_signals(receiver: Receiver, *, reloads: bool) -> None:
    """SIGINT and SIGTERM stop the receiver, a second one ends the process; SIGHUP reloads keys."""

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        receiver.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if reloads:
        reload_on_hang_up(receiver)


def reload_on_hang_up(receiver: Receiver) -> None:
    """Reload keys at each SIGHUP, which is blocked.

    In a thread of its own: a signal handler could interrupt the very thread that
    holds the keyring's lock, and wait for it for ever.
    """

    def wait_and_reload() -> None:
        while signal.sigwait([signal.SIGHUP]):
            receiver.reload_keys()

    threading.Thread(target=wait_and_reload, daemon=True).start()


def announce(receiver: Receiver, settings: ReceiverSettings) -> None:
    """Log what a killed receiver left, where files go to, and how a sender reaches this one."""
    host, port = receiver.address
    if receiver.doubt:
        doubt = f"receipts promise nothing, and say so: {receiver.doubt}"
        logs.tell(doubt, "not_durable", logging.WARNING)
    if removed := receiver.leftovers.removed:
        logs.tell(
            f"removed {counted(removed, 'unfinished file')} of a receiver that was killed",
            "leftovers",
        )
    if resumable := receiver.leftovers.resumable:
        interrupted = counted(resumable, "interrupted file")
        logs.tell(f"{interrupted} will resume when sent again", "leftovers")
    directory, plaintext = settings.directory, settings.insecure_plaintext
    how = "in PLAINTEXT" if plaintext else "over TLS 1.3"
    logs.tell(
        f"receiving into {directory} {how}, listening on {format_address(host, port)}",
        "listening", directory=directory, host=host, port=port, tls=not plaintext,
    )  # fmt: skip
    reached_as = socket.gethostname() if host in ("::", "0.0.0.0") else host  # noqa: S104
    reached_at = format_address(reached_as, port).removesuffix(f":{DEFAULT_PORT}")
    option = " --insecure-plaintext" if plaintext else ""
    logs.tell(f"on the other machine: xfer send{option} FILE {reached_at}", "advice")


def serve_until_stopped(receiver: Receiver, manager: ServiceManager) -> None:
    """Serve until a signal stops the receiver, and tell the service manager of both."""
    manager.tell(READY)
    receiver.serve_forever()
    manager.tell(STOPPING)
    logs.tell("stopping: what is arriving may finish", "stopping")
