"""The first address of a host that answers: Happy Eyeballs, RFC 8305.

A host may have addresses of both families, and one of them may lead nowhere
without a word. So they are tried in the order of the resolver (RFC 6724) with the
families in turn: the next one 250 ms after the one before, or as soon as that fails.
"""

import errno
import itertools
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

from xfer.client.look_up import ResolvedAddress, look_up
from xfer.wire.cancel import CancelToken

_BETWEEN_SECONDS: Final = 0.25
"""The delay that RFC 8305 recommends, in its section 5."""


def dial(
    host: str | bytes, port: int, seconds: float, cancel: CancelToken | None = None
) -> socket.socket:
    """A socket connected to `host` within so many seconds; the name is looked up before.

    Raises socket.gaierror and UnicodeError for a name that is unknown, TimeoutError
    where nothing answers in time, and ConnectionRefusedError, or another OSError,
    where all addresses fail. Cancelled, at any point, by `cancel`.
    """
    return first_connected(look_up(host, port, cancel), seconds, cancel)


def first_connected(
    addresses: Sequence[ResolvedAddress], seconds: float, cancel: CancelToken | None = None
) -> socket.socket:
    """A socket connected to one of `addresses`, whichever answers first; errors as of `dial`."""
    ends_at = time.monotonic() + seconds
    between = min(_BETWEEN_SECONDS, seconds / max(1, len(addresses)))
    race = _Race(cancel)
    try:
        for address in in_turn(addresses):
            race.start(address)
            if connected := race.wait(between):
                return connected
        while race.is_on and (left := ends_at - time.monotonic()) > 0:
            if connected := race.wait(left):
                return connected
        raise race.error()
    finally:
        race.close()


def in_turn(addresses: Sequence[ResolvedAddress]) -> list[ResolvedAddress]:
    """One of each family after the other; within a family, the order stays."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    pairs = itertools.zip_longest(first, others)
    return [address for pair in pairs for address in pair if address]


class _Race:
    """Connections being opened, of which the first one wins. `close` it in the end."""

    def __init__(self, cancel: CancelToken | None) -> None:
        self._cancel = cancel
        self._opening: dict[int, socket.socket] = {}
        """By descriptor."""
        self._errors: list[OSError] = []
        self._poller = select.poll()
        if cancel:
            self._poller.register(cancel.descriptor, select.POLLIN)

    @property
    def is_on(self) -> bool:
        return bool(self._opening)

    def start(self, address: ResolvedAddress) -> None:
        """Begin to connect."""
        family, kind, protocol, _, where = address
        try:
            opening = socket.socket(family, kind, protocol)
        except OSError as error:  # this machine does not know the family, for example
            self._errors.append(error)
            return
        opening.setblocking(False)
        self._opening[opening.fileno()] = opening
        self._poller.register(opening, select.POLLOUT)
        code = opening.connect_ex(where)
        if code not in (0, errno.EINPROGRESS, errno.EINTR):
            self._fail(opening, code)

    def wait(self, seconds: float) -> socket.socket | None:
        """The first that is connected. None once one has failed, or nothing has come of any."""
        if not self._opening:
            return None
        ready = self._poller.poll(seconds * 1000)
        if self._cancel:
            self._cancel.check()
        for descriptor, _ in ready:
            opening = self._opening[descriptor]
            if code := opening.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._fail(opening, code)
            else:
                return self._opening.pop(descriptor)
        return None

    def error(self) -> OSError:
        """Why none is connected. Where one was refused, somebody is there: that says most."""
        if self._opening:
            self._errors.append(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
        refused = [error for error in self._errors if isinstance(error, ConnectionRefusedError)]
        return (refused or self._errors)[-1]

    def close(self) -> None:
        """Close all that have not won."""
        for opening in self._opening.values():
            opening.close()

    def _fail(self, opening: socket.socket, code: int) -> None:
        self._poller.unregister(opening)
        del self._opening[opening.fileno()]
        opening.close()
        self._errors.append(OSError(code, os.strerror(code)))
