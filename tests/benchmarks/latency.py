"""xfer on a line of 50 ms each way, and what a single plain TCP stream does there."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks import plain_stream, works
from tests.benchmarks.contender import Contender, Line, Workspace
from tests.benchmarks.delay import delayed
from tests.benchmarks.results import Run, Spread
from tests.benchmarks.rounds import take_turns
from tests.benchmarks.works import KIB, MIB, Work
from tests.benchmarks.xfers import Xfer

DELAY: Final = 0.05
"""Seconds, each way."""

_WORKS: Final[dict[str, Callable[[Path, float], Work]]] = {
    "one file of 1 KiB": lambda directory, _: works.one_file(directory, KIB),
    "1,000 files of 4 KiB": lambda directory, scale: works.many_files(
        directory, works.scaled(1000, scale), 4 * KIB
    ),
    "one file of 100 MiB": lambda directory, scale: works.one_file(
        directory, works.scaled(100 * MIB, scale)
    ),
}


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """One work of one contender, in seconds without and with the delay, and what follows.

    `round_trips` is how many of them fit into the difference. `per_stream` is how long it took
    for every second of a plain stream of as many bytes on the same line in the same round.
    """

    title: str
    contender: str
    direct: Spread
    delayed: Spread
    round_trips: Spread
    per_stream: Spread


def measure(
    workspace: Workspace, xfers: Sequence[Xfer], rounds: int, scale: float
) -> Iterator[LatencyResult]:
    """Each xfer with and without the delay, and the stream with it, in turns."""
    stream = Contender(
        "plain stream, delayed", lambda _: _plain_stream(workspace), skips=False, stores=False
    )
    pairs = {
        xfer.name: (xfer.contender(workspace), xfer.contender(workspace, delay=DELAY))
        for xfer in xfers
    }
    contenders = [*(contender for pair in pairs.values() for contender in pair), stream]
    for title, make in _WORKS.items():
        with workspace.temporary("source") as directory:
            work = make(directory, scale)
            runs = take_turns(workspace, contenders, f"latency of {title}", work, rounds)
        for name, (near, far) in pairs.items():
            yield _compare(title, name, runs[near.name], runs[far.name], runs[stream.name])


def _compare(
    title: str, name: str, direct: list[Run], late: list[Run], stream: list[Run]
) -> LatencyResult:
    near, far, plain = ([run.seconds for run in runs] for runs in (direct, late, stream))
    spent = [(b - a) / (2 * DELAY) for a, b in zip(near, far, strict=True)]
    ratios = [b / c for b, c in zip(far, plain, strict=True)]
    return LatencyResult(title, name, *map(Spread.of, (near, far, spent, ratios)))


@contextlib.contextmanager
def _plain_stream(workspace: Workspace) -> Iterator[Line]:
    """A line that carries as many bytes as there are, and not their names."""
    command = [sys.executable, plain_stream.__file__]
    with workspace.start([*command, "sink"]) as sink:
        port = int(sink.wait_for(r"listening on \S+:(\d+)\n")[1])
        with delayed(port, DELAY) as reached_at:

            def send(source: Path) -> None:
                size = works.extent(source).bytes
                workspace.run([*command, "source", str(reached_at), str(size)])

            yield Line(send)
