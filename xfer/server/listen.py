"""A listening socket: on one address, or on all of both families."""

import errno
import socket
from typing import Final

from xfer.errors import LocalError

_ANY: Final = ("::", "0.0.0.0")  # noqa: S104 (a receiver is there to be reached)
_BACKLOG: Final = 128
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def listen(bind: str, port: int) -> socket.socket:
    """A socket that listens on `bind` (an address or a host name) and `port` (0: any free one).

    An empty `bind` means all addresses, of both families where the system has IPv6.
    LocalError when it can't listen there.
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


def _listen_at_first(address: str, port: int) -> socket.socket:
    """A socket that listens on the first address that a host name resolves to."""
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
