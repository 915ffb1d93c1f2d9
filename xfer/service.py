"""What `xfer receive` tells the service manager that started it, if one did.

By systemd's protocol, sd_notify(3): a datagram to the socket that NOTIFY_SOCKET
names. The socket to listen on, if there is one, see `listening.inherited`.
"""

import contextlib
import os
import socket
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
_VARIABLE: Final = "NOTIFY_SOCKET"


class ServiceManager:
    """Whoever NOTIFY_SOCKET names; the variable is removed, so that no child speaks for us."""

    def __init__(self) -> None:
        self._address = os.environ.pop(_VARIABLE, "")

    def tell(self, state: str) -> None:
        """Say READY or STOPPING. Nobody may be there to hear it: that is no reason to fail."""
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
