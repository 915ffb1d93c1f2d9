"""Two ends of a connection in one process."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from xfer.errors import ConnectionLost
from xfer.wire.channel import Channel

Ends = tuple[Channel, Channel]
Join = Callable[[float], contextlib.AbstractContextManager[Ends]]
"""Makes two connected ends with a timeout in seconds."""
Result = TypeVar("Result")


def concurrently(*jobs: Callable[[], Result]) -> list[Result]:
    """What the jobs return, each run in a thread of its own."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(30) for future in [pool.submit(job) for job in jobs]]


def over_loopback() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


@contextlib.contextmanager
def joined(sockets: tuple[socket.socket, socket.socket], timeout: float) -> Iterator[Ends]:
    ours, theirs = (Channel(end, timeout) for end in sockets)
    with contextlib.closing(ours), contextlib.closing(theirs):
        yield ours, theirs


def lost() -> contextlib.AbstractContextManager[object]:
    """Expects ConnectionLost, and not its kin PeerTimeout."""
    return pytest.raises(ConnectionLost, match="connection")


def say_slowly(channel: Channel, data: bytes, pause: float) -> None:
    """One byte at a time, until it is said or nobody listens any more."""
    with contextlib.suppress(ConnectionLost):
        for byte in data:
            time.sleep(pause)
            channel.send_body(bytes([byte]))
            channel.flush()
