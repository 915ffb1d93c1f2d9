"""A TCP proxy on loopback that does to connections what networks do to them.

Up is the way from the sender to the receiver, down the way back. Positions
count the bytes of one direction of one connection, from 0.
"""

import contextlib
import itertools
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import xfer
from tests.support.processes import SECRET, Site
from xfer.system.stop import StopSignal

_CHUNK_BYTES: Final = 64 * 1024
_BUFFER_BYTES: Final = 256 * 1024
"""What the system may keep on either side, beside what the ends keep themselves."""
_TICKS: Final = 20
"""Chunks a second where a rate is given."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to one direction of a connection. Nothing, unless something is given.

    `cut_at` closes both directions, `reset_at` resets them, `stall_at` lets no
    more through, `flip_at` changes one bit; `rate` in bytes a second, `delay`
    in seconds, `chunk` in bytes.
    """

    cut_at: int | None = None
    reset_at: int | None = None
    stall_at: int | None = None
    flip_at: int | None = None
    rate: int | None = None
    delay: float = 0.0
    chunk: int = _CHUNK_BYTES

    @property
    def ends_at(self) -> int | None:
        """After so many bytes nothing goes through any more."""
        ends = [end for end in (self.cut_at, self.reset_at, self.stall_at) if end is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
class Link:
    """The trouble of one connection."""

    up: Trouble = field(default_factory=Trouble)
    down: Trouble = field(default_factory=Trouble)


def link(way: str, **trouble: Any) -> Link:
    """Trouble in one direction only."""
    return Link(**{way: Trouble(**trouble)})


class Proxy:
    """Listens, and forwards to a port on loopback. A context manager.

    The first connections meet the trouble of `links`, one each, all others none.
    `up` and `down` are how many bytes went through so far.
    """

    def __init__(self, port: int, links: Iterable[Link] = ()) -> None:
        self._to = ("127.0.0.1", port)
        self._links = iter(links)
        self._stop = StopSignal()
        self._listening = socket.create_server(("127.0.0.1", 0))
        _limit_buffers(self._listening)
        self._connections: list[_Connection] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._listening.close()
        for connection in self._connections:
            connection.close()
        self._stop.close()

    @property
    def up(self) -> int:
        return sum(connection.up.passed for connection in self._connections)

    @property
    def down(self) -> int:
        return sum(connection.down.passed for connection in self._connections)

    def down_of(self, connection: int) -> int:
        """`down` of one connection, counted from 0."""
        return self._connections[connection].down.passed

    @property
    def connections(self) -> int:
        return len(self._connections)

    def silences(self, seconds: float) -> int:
        """How often the sender of the only connection said nothing for so long, and then more."""
        (connection,) = self._connections
        gaps = (later - earlier for earlier, later in itertools.pairwise(connection.up.arrivals))
        return sum(gap >= seconds for gap in gaps)

    def leading_to(self, site: Site) -> Site:
        """`site` as it is reached through this proxy."""
        return replace(site, host=f"127.0.0.1:{self._listening.getsockname()[1]}")

    def _serve(self) -> None:
        while _ready(self._listening, self._stop):
            sender = self._listening.accept()[0]
            try:
                receiver = socket.create_connection(self._to)
            except OSError:
                sender.close()
                continue
            self._connections.append(_Connection(sender, receiver, next(self._links, Link())))


class _Connection:
    """A sender's connection and the one to the receiver, with a thread for each direction."""

    def __init__(self, sender: socket.socket, receiver: socket.socket, link: Link) -> None:
        self._sockets = (sender, receiver)
        self._over = StopSignal()
        for end in self._sockets:
            _limit_buffers(end)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(False)
        self.up = _Direction(sender, receiver, link.up, self._over)
        self.down = _Direction(receiver, sender, link.down, self._over)
        self._running = 2
        self._ending = threading.Lock()
        ways = (self.up, self.down)
        self._threads = [threading.Thread(target=self._run, args=(way,)) for way in ways]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End it, and wait until that is done."""
        with self._ending:
            if self._running:
                self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, way: "_Direction") -> None:
        with contextlib.suppress(OSError):
            way.forward()
        with self._ending:
            if not way.is_at_end:
                self._over.set()
            self._running -= 1
            if not self._running:
                for end in self._sockets:
                    if self.up.was_reset or self.down.was_reset:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.close()
                self._over.close()


class _Direction:
    """Forwards from one socket to the other, until the end or until `over` is set."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, trouble: Trouble, over: StopSignal
    ) -> None:
        self.passed = 0
        self.arrivals: list[float] = []
        self.is_at_end = self.was_reset = False
        self._source = source
        self._sink = sink
        self._trouble = trouble
        self._over = over
        self._on_its_way: deque[tuple[float, bytes]] = deque()

    def forward(self) -> None:
        """Returns when there is nothing more to forward. OSError when an end has gone."""
        while not self._over.is_set and (not self.is_at_end or self._on_its_way):
            if self.passed == self._trouble.ends_at:
                self._end()
                return
            if self._seconds_to_wait() == 0:
                self._pass_on(self._on_its_way.popleft()[1])
            elif self.is_at_end:
                _ready(None, self._over, self._seconds_to_wait())
            elif _ready(self._source, self._over, self._seconds_to_wait()):
                self._take()
        if self.is_at_end:
            self._sink.shutdown(socket.SHUT_WR)

    def _end(self) -> None:
        if self.passed == self._trouble.stall_at:
            _ready(None, self._over)
        self.was_reset = self.passed == self._trouble.reset_at

    def _seconds_to_wait(self) -> float | None:
        if not self._on_its_way:
            return None
        return max(0.0, self._on_its_way[0][0] - time.monotonic())

    def _take(self) -> None:
        trouble = self._trouble
        chunk = trouble.chunk if trouble.rate is None else max(1, trouble.rate // _TICKS)
        data = self._source.recv(chunk if trouble.delay else min(chunk, self._room()))
        self.is_at_end = not data
        if data:
            self.arrivals.append(time.monotonic())
            self._on_its_way.append((time.monotonic() + trouble.delay, data))

    def _room(self) -> int:
        end = self._trouble.ends_at
        return _CHUNK_BYTES if end is None else end - self.passed

    def _pass_on(self, data: bytes) -> None:
        rest = memoryview(self._changed(data))[: self._room()]
        while rest and not self._over.is_set:
            if _ready(self._sink, self._over, events=select.POLLOUT):
                sent = self._sink.send(rest)
                self.passed += sent
                rest = rest[sent:]
        if self._trouble.rate:
            _ready(None, self._over, len(data) / self._trouble.rate)

    def _changed(self, data: bytes) -> bytes:
        position = self._trouble.flip_at
        if position is None or not 0 <= position - self.passed < len(data):
            return data
        changed = bytearray(data)
        changed[position - self.passed] ^= 1
        return bytes(changed)


def _limit_buffers(end: socket.socket) -> None:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)


def _ready(
    end: socket.socket | None,
    over: StopSignal,
    seconds: float | None = None,
    events: int = select.POLLIN,
) -> bool:
    """Wait until `end` is ready; False when it is over before, or when it takes longer."""
    poller = select.poll()
    poller.register(over.descriptor, select.POLLIN)
    if end:
        poller.register(end, events)
    found = poller.poll(None if seconds is None else seconds * 1000)
    return bool(found) and over.descriptor not in dict(found)


def exit_code(site: Site, *files: Path, retry_for: float = 0, **options: Any) -> int:
    """What a send from this process ends with. Whatever is no XferError is raised."""
    paths = list(map(str, files))
    options |= {"retry_for": retry_for, "insecure_plaintext": site.plaintext}
    try:
        xfer.send(paths, site.host, secret=SECRET, **options)
    except xfer.XferError as error:
        return error.exit_code
    return 0
