"""The addresses of a host, looked up in a way that a token can cancel."""

import os
import select
import socket
import threading
from collections.abc import Sequence
from typing import Any

from xfer.wire.cancel import CancelToken

ResolvedAddress = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""As `socket.getaddrinfo` returns it."""


def look_up(host: str | bytes, port: int, cancel: CancelToken | None) -> Sequence[ResolvedAddress]:
    """All addresses of `host`. Raises socket.gaierror, UnicodeError, and Cancelled."""
    if cancel is None:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    cancel.check()
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return _look_up_in_thread(host, port, cancel)


def _look_up_in_thread(
    host: str | bytes, port: int, cancel: CancelToken
) -> Sequence[ResolvedAddress]:
    """In another thread, since nothing can interrupt it. Once cancelled, that ends unheard."""
    ended, write_end = os.pipe()
    found: list[ResolvedAddress] = []
    failed: list[OSError | UnicodeError] = []

    def run() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failed.append(error)
        finally:
            os.close(write_end)

    try:
        threading.Thread(target=run, daemon=True).start()
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        poller.register(cancel.descriptor, select.POLLIN)
        poller.poll()
        cancel.check()
    finally:
        os.close(ended)
    if failed:
        raise failed[0]
    return found
