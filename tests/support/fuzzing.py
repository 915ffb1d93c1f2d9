"""Fuzzing of parsers, in this process: what goes in at random, and what may come of it."""

import functools
import io
import resource
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from typing import Final, Self, TypeVar

from tests.support.mutations import NAMES, PAYLOADS, Mutator
from xfer import names
from xfer.errors import ProtocolError, Refused
from xfer.wire import frames, messages

Job = TypeVar("Job")

SLOW_SECONDS: Final = 1.0
"""Processor time that no single input may take."""
_WARM: Final = 20_000
_GROWTH_KIB: Final = 32 * 1024
PROCESSES: Final = 2


@dataclass(slots=True)
class Tally:
    """How much was tried, and what must be 0 at the end."""

    inputs: int = 0
    accepted: int = 0
    crashes: int = 0
    hangs: int = 0
    leaks: int = 0
    first: str = ""
    slowest: float = 0.0

    def __add__(self, other: Self) -> "Tally":
        total = Tally(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)}
        )
        total.first = self.first or other.first
        total.slowest = max(self.slowest, other.slowest)
        return total

    def __str__(self) -> str:
        return (
            f"{self.inputs:,} inputs ({self.accepted:,} accepted, slowest {self.slowest:.3f} s), "
            f"{self.crashes} crashes, {self.hangs} hangs, {self.leaks} leaks {self.first}"
        )

    @property
    def is_clean(self) -> bool:
        return not (self.crashes or self.hangs or self.leaks)

    def note(self, error: BaseException, data: object) -> None:
        self.crashes += 1
        self.first = self.first or f"{error!r} for {data!r}"[:2000]


def framed(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


def _stream(data: bytes) -> None:
    """A frame as it comes from a socket."""
    source = io.BytesIO(data)

    def read(length: int) -> bytes:
        assert length <= frames.MAX_PAYLOAD, "asked for more than a frame may have"
        read = source.read(length)
        if len(read) < length:
            raise EOFError
        return read

    try:
        frames.decode(frames.read_payload(read))
    except EOFError:
        raise ProtocolError("cut off") from None


def _message(data: bytes) -> None:
    """A payload; what is accepted must come out of its own frame as it went in."""
    message = messages.parse(data)
    try:
        frame = messages.encode(message)
    except ProtocolError:  # our escapes can be longer than the ones that came
        assert len(data) > frames.MAX_PAYLOAD // 6
        return
    assert messages.parse(frame[4:]) == message


def _name(data: bytes) -> None:
    """A name; what is accepted stays below its directory, and has one spelling."""
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
    assert names.printable(text).isprintable() or not text
    accepted = names.check(text)
    on_disk = names.to_bytes(accepted)
    assert len(on_disk) <= names.MAX_NAME
    assert not {b"", b".", b".."}.intersection(on_disk.split(b"/"))
    assert on_disk.split(b"/")[0] != b".xfer"
    assert b"\0" not in on_disk
    assert names.from_bytes(on_disk) == text
    if len(on_disk) < names.MAX_NAME:
        names.check_target(text)


_SPELLED: Final = [name.encode("utf-8", "surrogatepass") for name in NAMES]
_FRAMED: Final = [framed(payload) for payload in PAYLOADS]
TARGETS: Final[list[tuple[Callable[[bytes], None], Sequence[bytes]]]] = [
    (_message, PAYLOADS),
    (_stream, _FRAMED),
    (_name, _SPELLED),
]


def parse(count: int, seed: int) -> Tally:
    """`count` inputs for the parsers in turn, most of them for messages."""
    tally = Tally()
    mutators = [(target, corpus, Mutator(seed, corpus)) for target, corpus in TARGETS]
    before = 0
    for number in range(count):
        target, corpus, mutate = mutators[(0, 0, 1, 2)[number % 4]]
        data = mutate(mutate.random.choice(corpus))
        began = time.thread_time()
        try:
            target(data)
            tally.accepted += 1
        except (ProtocolError, Refused):
            pass
        except Exception as error:  # noqa: BLE001 (it is what is looked for)
            tally.note(error, data)
        seconds = time.thread_time() - began
        tally.slowest = max(tally.slowest, seconds)
        tally.hangs += seconds > SLOW_SECONDS
        if number == _WARM:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally.inputs = count
    if before:
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        tally.leaks += grown > _GROWTH_KIB
    return tally


def in_processes(work: Callable[[int, int], Tally], count: int, seed: int) -> Tally:
    """`work` of `count` inputs, split over processes, each with a seed of its own."""
    shares = [count // PROCESSES + (number < count % PROCESSES) for number in range(PROCESSES)]
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        done = pool.map(work, shares, range(seed, seed + PROCESSES))
        return functools.reduce(Tally.__add__, done)
