"""What `xfer receive` does around its receiver: announcements, signals, the service manager."""

import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

from xfer import logs
from xfer.config.defaults import DEFAULT_PORT
from xfer.daemon.systemd import READY, STOPPING, ServiceManager
from xfer.server.receiver import Receiver


def hold_hang_ups() -> None:
    """Have SIGHUP wait to be heeded, by threads that are started later, too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])


def heed_signals(receiver: Receiver, *, reloads: bool) -> None:
    """SIGINT and SIGTERM stop it, a second one at once; SIGHUP reloads keys, if it is held."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopper(receiver))
    if reloads:
        reload_on_hang_up(receiver)


def reload_on_hang_up(receiver: Receiver) -> None:
    """In a thread that waits for it: a handler may take no lock."""
    threading.Thread(target=_reload_on_hang_up, args=(receiver,), daemon=True).start()


def announce(receiver: Receiver, directory: str, *, insecure_plaintext: bool) -> None:
    """Say what is received, where, and what was found of a receiver that was killed."""
    host, port = receiver.address
    if removed := receiver.leftovers.removed:
        logs.tell(
            f"removed {removed} unfinished file(s) of a receiver that was killed", "leftovers"
        )
    if resumable := receiver.leftovers.resumable:
        logs.tell(f"{resumable} interrupted file(s) will resume when sent again", "leftovers")
    shown = f"[{host}]" if ":" in host else host
    how = "in PLAINTEXT" if insecure_plaintext else "over TLS 1.3"
    logs.tell(
        f"receiving into {directory} {how}, listening on {shown}:{port}",
        "listening", directory=directory, host=host, port=port, tls=not insecure_plaintext,
    )  # fmt: skip
    reached_as = socket.gethostname() if host in ("::", "0.0.0.0") else shown  # noqa: S104
    at_port = "" if port == DEFAULT_PORT else f":{port}"
    option = " --insecure-plaintext" if insecure_plaintext else ""
    logs.tell(f"on the other machine: xfer send{option} FILE {reached_as}{at_port}", "advice")


def until_stopped(receiver: Receiver, manager: ServiceManager) -> None:
    """Serve until a signal says that it is enough."""
    manager.tell(READY)
    receiver.serve_forever()
    manager.tell(STOPPING)
    logs.tell("stopping: what is arriving may finish", "stopping")


def _stopper(receiver: Receiver) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # whoever asks twice does not want to wait
        receiver.stop()

    return stop


def _reload_on_hang_up(receiver: Receiver) -> None:
    while signal.sigwait([signal.SIGHUP]):
        receiver.reload_keys()
