"""What `xfer receive` does around its receiver: the first secret, signals, announcements."""

import signal
import socket
import sys
from types import FrameType

from xfer import config, logs
from xfer.api import Receiver
from xfer.console import say, write
from xfer.service import READY, STOPPING, ServiceManager
from xfer.storage.layout import Layout


def until_stopped(receiver: Receiver, manager: ServiceManager) -> None:
    """Serve until a signal says that it is enough; a second one ends the process at once."""
    _stop_on_signals(receiver)
    manager.tell(READY)
    receiver.serve_forever()
    manager.tell(STOPPING)
    logs.tell("stopping: what is arriving may finish", "stopping")


def first_secret(directory: str, *, for_a_person: bool) -> str:
    """Make the user's secret, and tell how it gets to the other machine."""
    Layout(directory).close()  # fails before a secret is made for nothing
    file = config.default_secret_file()
    secret = config.create_secret(file)
    logs.tell(f"there was no secret yet: a new one is in {file}", "secret")
    if for_a_person:  # a log file is no place for a secret
        say("on the other machine, once:")
        write("    (umask 077; set -C; mkdir -p ~/.config/xfer")
        write(f"    echo {secret} > ~/.config/xfer/secret)")
    else:
        logs.tell("copy that file to ~/.config/xfer/secret on the other machine", "secret")
    return secret


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
    at_port = "" if port == config.DEFAULT_PORT else f":{port}"
    option = " --insecure-plaintext" if insecure_plaintext else ""
    logs.tell(f"on the other machine: xfer send{option} FILE {reached_as}{at_port}", "advice")


def is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _stop_on_signals(receiver: Receiver) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # whoever asks twice does not want to wait
        receiver.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
