"""What systemd and the processes that it starts tell each other.

Readiness by sd_notify(3), and a listening socket that it opened by sd_listen_fds(3).
"""

import contextlib
import os
import socket
from typing import Final

from xfer.errors import LocalError

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
_NOTIFY: Final = "NOTIFY_SOCKET"
_LISTEN: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_FIRST_INHERITED: Final = 3


class ServiceManager:
    """The service manager that NOTIFY_SOCKET names, if one started this process.

    The variable is removed, so that no child process notifies in our place.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop(_NOTIFY, "")

    def tell(self, state: str) -> None:
        """Send READY or STOPPING as a datagram. Nobody may listen: that is no reason to fail."""
        if not self._address:
            return
        # A leading @ stands for the NUL byte of Linux's abstract name space.
        name = os.fsencode(self._address)
        name = b"\0" + name[1:] if name.startswith(b"@") else name
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking,
        ):
            speaking.setblocking(False)
            speaking.sendto(state.encode(), name)


def inherited() -> socket.socket | None:
    """The listening socket that a service manager opened for this process; None without one.

    By sd_listen_fds(3) it is descriptor 3. The variables that say so are removed,
    so that no child process takes them for its own. LocalError when descriptor 3 is
    no listening TCP socket, or there are several.
    """
    pid, count, _ = (os.environ.pop(variable, "") for variable in _LISTEN)
    if pid != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise LocalError(f"the service manager gave {count} sockets: one is enough")
    try:
        os.set_inheritable(_FIRST_INHERITED, False)
        given = socket.socket(fileno=_FIRST_INHERITED)
    except OSError as error:
        raise LocalError(
            f"the service manager's socket cannot be used: {error.strerror}"
        ) from error
    is_tcp = given.family in (socket.AF_INET, socket.AF_INET6) and given.type == socket.SOCK_STREAM
    if not is_tcp or not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        given.close()
        raise LocalError("what the service manager gave is no listening TCP socket")
    given.setblocking(True)
    return given
