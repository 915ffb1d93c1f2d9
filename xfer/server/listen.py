"""The listening socket: made here, or inherited from a service manager."""

import errno
import os
import socket
from typing import Final

from xfer.errors import LocalError

_ANY: Final = ("::", "0.0.0.0")  # noqa: S104 (a receiver is there to be reached)
_BACKLOG: Final = 128
_FIRST_INHERITED: Final = 3
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def listen(bind: str, port: int) -> socket.socket:
    """A socket that listens at `bind`, an address or a host name, and `port`.

    Empty means all addresses, of both families where the system has both.
    LocalError when it can't be had.
    """
    try:
        return _listen_at_first(bind or _ANY[0], port)
    except OSError as error:
        if bind or error.errno not in _NO_IPV6:
            raise _cannot_listen(bind, port, error) from error
    try:
        return _listen_at_first(_ANY[1], port)
    except OSError as error:
        raise _cannot_listen(bind, port, error) from error


def inherited() -> socket.socket | None:
    """The socket that a service manager has opened for this process; None if there is none.

    By systemd's protocol, sd_listen_fds(3): the first one is descriptor 3. The
    variables that say so are removed, so that no child takes them for its own.
    LocalError when what is there is no listening TCP socket.
    """
    pid, count, _ = (os.environ.pop(variable, "") for variable in _VARIABLES)
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


def _listen_at_first(address: str, port: int) -> socket.socket:
    """At the first of the addresses that a name stands for."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise LocalError(f"cannot listen on {address}: no such host") from error
    family, *_, where = found[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(where)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _cannot_listen(bind: str, port: int, error: OSError) -> LocalError:
    return LocalError(f"cannot listen on {bind or 'any address'}, port {port}: {error.strerror}")
