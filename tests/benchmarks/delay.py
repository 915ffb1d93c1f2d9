"""A long line: a TCP proxy on loopback that delivers everything later, however much it is.

`tests.proxy` breaks connections at given bytes; this one only waits, and carries what a machine
can send without ever being the one that slows it down. Whoever connects is accepted at once: the
round trip of TCP's own opening is not there.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

_CHUNK_BYTES: Final = 256 * 1024

_OnItsWay = queue.SimpleQueue[tuple[float, bytes]]
"""When it arrives, and what; nothing for the end."""


@contextlib.contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """A port that leads to `port`, where every byte takes `seconds` longer, either way."""
    with contextlib.ExitStack() as connections, socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):  # the end: nobody listens any more
                while True:
                    accepted = listening.accept()[0]
                    connections.enter_context(_connection(accepted, port, seconds))

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextlib.contextmanager
def _connection(accepted: socket.socket, port: int, seconds: float) -> Iterator[None]:
    """Forwards both ways until the context is left, and then no more."""
    with accepted, socket.create_connection(("127.0.0.1", port)) as connected:
        threads = []
        for source, sink in ((accepted, connected), (connected, accepted)):
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            on_its_way = _OnItsWay()
            take = threading.Thread(target=_take, args=(source, on_its_way, seconds))
            deliver = threading.Thread(target=_deliver, args=(on_its_way, source, sink))
            threads += [take, deliver]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for end in (accepted, connected):
                with contextlib.suppress(OSError):  # it has gone already
                    end.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def _take(source: socket.socket, on_its_way: _OnItsWay, seconds: float) -> None:
    data = b"more"
    while data:
        try:
            data = source.recv(_CHUNK_BYTES)
        except OSError:
            data = b""
        on_its_way.put((time.monotonic() + seconds, data))


def _deliver(on_its_way: _OnItsWay, source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            arrives_at, data = on_its_way.get()
            time.sleep(max(0.0, arrives_at - time.monotonic()))
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            try:
                sink.sendall(data)
            except OSError:
                source.shutdown(socket.SHUT_RDWR)
                return
