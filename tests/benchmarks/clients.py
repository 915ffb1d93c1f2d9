"""Many senders at once, to a receiver with one worker and to one with several.

On one machine the senders take as much of its processors as the receiver, or
more: what several workers are worth where the senders have machines of their
own, it does not show.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks import works
from tests.benchmarks.contender import Contender, Line, Workspace
from tests.benchmarks.results import Spread
from tests.benchmarks.rounds import take_turns
from tests.benchmarks.works import KIB, MIB, Work
from tests.benchmarks.xfers import Variant, Xfer

SENDERS: Final = 16
_WORKERS: Final = max(2, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class ClientsResult:
    """One work of one contender, in seconds with one worker and with several.

    `ratio` is how long the several took for every second of the one in the same round.
    """

    title: str
    contender: str
    workers: int
    alone: Spread
    together: Spread
    ratio: Spread


def measure(
    workspace: Workspace, xfers: Sequence[Xfer], rounds: int, scale: float
) -> Iterator[ClientsResult]:
    """Each xfer with one worker and with several, in turns."""
    several = Variant(f"{_WORKERS} workers", receive=("--workers", str(_WORKERS)))
    pairs = {
        xfer.name: (
            _crowded(xfer.contender(workspace)),
            _crowded(xfer.contender(workspace, several)),
        )
        for xfer in xfers
    }
    contenders = [contender for pair in pairs.values() for contender in pair]
    for title, make in _WORKS.items():
        with workspace.temporary("source") as directory:
            work = _for_each(make, directory, scale)
            runs = take_turns(workspace, contenders, f"clients: {title}", work, rounds)
        for name, pair in pairs.items():
            one, more = ([run.seconds for run in runs[contender.name]] for contender in pair)
            ratios = [b / a for a, b in zip(one, more, strict=True)]
            yield ClientsResult(title, name, _WORKERS, *map(Spread.of, (one, more, ratios)))


def _for_each(make: Callable[[Path, float], Work], directory: Path, scale: float) -> Work:
    """A directory for each sender, which has a work of its own."""
    for number in range(SENDERS):
        make(directory / "clients" / f"client-{number:02}", scale)
    return Work(directory / "clients")


def _small_files(directory: Path, scale: float) -> Work:
    return works.many_files(directory, works.scaled(500, scale), 4 * KIB)


def _large_file(directory: Path, scale: float) -> Work:
    directory.mkdir(parents=True)
    return works.one_file(directory, works.scaled(64 * MIB, scale))


_WORKS: Final[dict[str, Callable[[Path, float], Work]]] = {
    f"{SENDERS} senders, each with 500 files of 4 KiB": _small_files,
    f"{SENDERS} senders, each with one file of 64 MiB": _large_file,
}


def _crowded(contender: Contender) -> Contender:
    """The same one, with a sender for each entry of what is sent."""

    @contextlib.contextmanager
    def ready(destination: Path) -> Iterator[Line]:
        received = destination / "clients"
        received.mkdir()
        with contender.open(received) as line:

            def send(source: Path) -> None:
                with ThreadPoolExecutor(SENDERS) as senders:
                    list(senders.map(line.send, sorted(source.iterdir())))

            yield Line(send, line.peaks)
        shutil.rmtree(received / ".xfer")  # the receiver's own is not compared

    return Contender(contender.name, ready)
