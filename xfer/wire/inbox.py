"""What was received and not read yet, and the bodies that are read from it."""

from typing import Final

from xfer.wire.min_rate import MinimumRate
from xfer.wire.transport import Transport

_BYTES: Final = 256 * 1024
_UNAUTHENTICATED_BYTES: Final = 8 * 1024


class Inbox:
    """A buffer in front of a transport: many frames are received with one system call.

    All of it belongs to the receiving thread.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._buffer = memoryview(bytearray(_UNAUTHENTICATED_BYTES))
        self._start = self._end = 0  # of what is not read yet

    def enlarge(self) -> None:
        """Have the buffer that an authenticated peer is given; what is in it stays."""
        buffer = memoryview(bytearray(_BYTES))
        rest = self._end - self._start
        buffer[:rest] = self._buffer[self._start : self._end]
        self._buffer, self._start, self._end = buffer, 0, rest

    def fill_now(self) -> bool:
        """Receive what has come already, if all was read; whether there is something to read."""
        if self._start == self._end:
            self._start, self._end = 0, self._transport.receive_now(self._buffer)
        return self._start < self._end

    def read(self, length: int) -> bytes:
        """Exactly `length` bytes."""
        return self.view(length).tobytes()

    def view(self, length: int) -> memoryview:
        """Exactly `length` bytes, which stay what they are until more is received."""
        end = self._start + length
        if end <= self._end:
            view, self._start = self._buffer[self._start : end], end
        else:
            view = memoryview(bytearray(length))
            self.read_into(view)
        return view

    def read_into(self, view: memoryview) -> None:
        """Fill `view`; directly, past the buffer, where more is missing than the buffer holds."""
        filled = 0
        while filled < len(view):
            if self._start < self._end:
                size = min(len(view) - filled, self._end - self._start)
                view[filled : filled + size] = self._buffer[self._start : self._start + size]
                self._start += size
            elif len(view) - filled < len(self._buffer):
                self._fill()
                continue
            else:
                size = self._transport.receive_into(view[filled:])
            filled += size

    def drain(self, size: int) -> None:
        """Receive and forget `size` bytes or a little more; it ends with an error before that."""
        drained = 0
        while drained < size:
            drained += self._transport.receive_into(self._buffer)

    def _fill(self) -> None:
        self._start = self._end = 0
        self._end = self._transport.receive_into(self._buffer)


class Body:
    """Raw bytes of a known length, to be read to the end or drained."""

    def __init__(self, inbox: Inbox, length: int) -> None:
        self.remaining = length
        self._inbox = inbox

    def view(self) -> memoryview:
        """All that remains, which stays what it is until more is received."""
        content, self.remaining = self._inbox.view(self.remaining), 0
        return content

    def read_into(self, view: memoryview) -> None:
        """Fill `view`, which is no longer than what remains."""
        self._inbox.read_into(view)
        self.remaining -= len(view)

    def drain(self, scratch: memoryview) -> None:
        """Read what remains into `scratch`, over and over, and forget it."""
        while self.remaining:
            self.read_into(scratch[: self.remaining])


class MinimumRateBody(Body):
    """A body that must not arrive too slowly, else PeerTimeout, see `MinimumRate`."""

    def __init__(self, inbox: Inbox, length: int, min_rate: MinimumRate) -> None:
        super().__init__(inbox, length)
        self._min_rate = min_rate

    def view(self) -> memoryview:
        """All that remains."""
        content = memoryview(bytearray(self.remaining))
        self.read_into(content)
        return content

    def read_into(self, view: memoryview) -> None:
        """Fill `view`, which is no longer than what remains."""
        self._min_rate.read_into(self._inbox.read_into, view)
        self.remaining -= len(view)
