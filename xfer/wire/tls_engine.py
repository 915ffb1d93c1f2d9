"""TLS in memory: plain bytes on one side, encrypted records on the other. Knows no socket.

That way many records are received or sent with one system call. OpenSSL on a
socket makes two for each record it receives.
"""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from typing import Final

from xfer.errors import ConnectionLost, ProtocolError

BATCH_BYTES: Final = 128 * 1024
"""How many bytes of records are received or sent with one system call."""
_MAX_ANSWERS: Final = 16 * 1024
"""How many bytes OpenSSL may have queued by itself before something is sent.

It answers each request for new keys (KeyUpdate, RFC 8446, 4.6.3) with a record,
and a peer can send such requests without an end.
"""


class TLSEngine:
    """One end of a TLS connection. What it raises, `map_errors` says.

    The receiving thread feeds and decrypts while the sending one encrypts and
    takes `outgoing`. OpenSSL does not allow two threads in one connection at
    once, so each step holds a lock. None of the steps waits for the peer.
    """

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._lock = threading.Lock()  # guards the three above, and `_answers`
        self._answers = 0  # bytes that OpenSSL queued by itself since `outgoing` was taken
        # Written in the handshake, before there is a second thread.
        self.is_open = False
        """Whether the handshake is over, so that what is sent now is encrypted."""
        # Receiving thread only.
        self.has_more = False
        """Whether there may be plain bytes that `decrypt_into` had no room for."""

    def handshake(self) -> bool:
        """One step of the handshake; whether it was the last. Send `outgoing` either way.

        ProtocolError if the other side does not speak TLS 1.3, ConnectionLost if it is gone.
        """
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
        """Give it what the other side sent; nothing when that has closed the connection."""
        with self._lock:
            if records:
                self._incoming.write(records)
            else:
                self._incoming.write_eof()

    def decrypt_into(self, view: memoryview) -> int:
        """Fill the front of `view`; how many bytes, 0 when that takes more records.

        ConnectionLost at the end of the connection, ProtocolError for what is not TLS.
        """
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
                if not filled:  # else the next call comes to the same end
                    raise
            self._answers += self._outgoing.pending - queued
        if self._answers > _MAX_ANSWERS:
            raise ProtocolError("TLS failed: too many requests for new keys")
        return filled

    def encrypt(self, data: memoryview) -> memoryview:
        """Make records of the front of `data`; what remains of it. Send `outgoing` then."""
        try:
            with self._lock, map_errors():
                while data and self._outgoing.pending < BATCH_BYTES:
                    data = data[self._tls.write(data) :]
        except BlockingIOError as error:
            raise ConnectionLost("the handshake was not finished") from error
        return data

    def outgoing(self) -> bytes:
        """The records to be sent to the other side, which are then no longer held here."""
        with self._lock:
            self._answers = 0
            return self._outgoing.read()

    def close(self) -> bytes:
        """What was not sent yet and close_notify, which says that no more will come."""
        with self._lock:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
            return self._outgoing.read()


@contextlib.contextmanager
def map_errors() -> Iterator[None]:
    """Raise the system's and OpenSSL's errors as this package's.

    ConnectionLost at the end of the connection, expected or not, ProtocolError
    for what is not TLS 1.3. BlockingIOError stays: more has to be received, or
    sent, first.
    """
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
    """The error for a connection that the other side ended."""
    return ConnectionLost("the other side closed the connection")
