"""TLS in memory: plain bytes on one side, encrypted records on the other. Knows no socket.

So many records come and go with one system call, where OpenSSL by itself makes
two for each. A lock keeps two threads from being in one connection at once,
which OpenSSL does not allow.
"""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from typing import Final

from xfer.errors import ConnectionLost, ProtocolError

BATCH_BYTES: Final = 128 * 1024
"""Records that are worth a system call."""
_MOST_ANSWERS: Final = 16 * 1024
"""Bytes that the other side may have this one queue, by asking for new keys again and again."""


class TLSEngine:
    """One end of a TLS connection. Its errors are our own, see `map_errors`."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._lock = threading.Lock()
        self._answers = 0
        self.is_open = False
        """Whether the handshake is over, so that what is sent now is encrypted."""
        self.has_more = False
        """Whether there may be plain bytes that `decrypt_into` had no room for."""

    def handshake(self) -> bool:
        """One step of the handshake; whether it was the last. Send `outgoing` either way."""
        try:
            with self._lock, map_errors():
                self._tls.do_handshake()
        except BlockingIOError:
            return False
        self.is_open = True
        return True

    def peer_certificate(self) -> bytes:
        """The other side's certificate in DER, empty when it showed none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def feed(self, records: memoryview) -> None:
        """What the other side sent; empty when it has closed the connection."""
        with self._lock:
            if records:
                self._incoming.write(records)
            else:
                self._incoming.write_eof()

    def decrypt_into(self, view: memoryview) -> int:
        """Fill the front of `view`; how many bytes, none when that takes more records."""
        filled = 0
        self.has_more = True
        with self._lock:
            queued = self._outgoing.pending
            try:
                with map_errors():
                    while filled < len(view):
                        size = int(self._tls.read(len(view) - filled, view[filled:]))
                        if not size:
                            raise closed()
                        filled += size
            except BlockingIOError:
                self.has_more = False
            except ConnectionLost:
                if not filled:
                    raise
            self._answers += self._outgoing.pending - queued
        if self._answers > _MOST_ANSWERS:
            raise ProtocolError("TLS failed: too many requests for new keys")
        return filled

    def encrypt(self, data: memoryview) -> memoryview:
        """Make records of some of `data`; what remains of it. Send `outgoing` then."""
        try:
            with self._lock, map_errors():
                while data and self._outgoing.pending < BATCH_BYTES:
                    data = data[self._tls.write(data) :]
        except BlockingIOError as error:
            raise ConnectionLost("the handshake was not finished") from error
        return data

    def outgoing(self) -> bytes:
        """What is to be sent to the other side."""
        with self._lock:
            self._answers = 0
            return self._outgoing.read()

    def close(self) -> bytes:
        """The last record, which says that no more will come."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._tls.unwrap()
        return self._outgoing.read()


@contextlib.contextmanager
def map_errors() -> Iterator[None]:
    """The system's and OpenSSL's errors as our own; BlockingIOError where it can't go on."""
    try:
        yield
    except ssl.SSLWantReadError as blocked:
        raise BlockingIOError from blocked
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise closed() from error
    except ssl.SSLError as error:
        raise ProtocolError(f"TLS failed: {error.reason or error}") from error
    except BlockingIOError:
        raise
    except OSError as error:
        raise ConnectionLost(f"the connection was lost: {error.strerror}") from error


def closed() -> ConnectionLost:
    return ConnectionLost("the other side closed the connection")
