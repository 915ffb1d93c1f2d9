"""Whatever is killed, and whenever: no receipt was wrong, no name shows a part, a rerun finishes.

strace counts calls in every thread apart and strikes the first thread that
gets to `when=N`. Where two threads of a receiver share a call, some of those
that the slower one makes are not reached that way: what it sends, opens, and
sets the modes of. Every call that changes a name is made by one thread only,
so every state that a directory goes through is met all the same.

By default a random sample is tried; XFER_FAULT_SEED repeats one. `pytest -m
exhaustive` goes through every call and every index until nothing is hit.
"""

import functools
import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.support import faults
from tests.support.faults import Job
from tests.support.strikes import KILL, PARTIALS, SIDES, STARTS, Fault, Point, Struck, strike

Value = TypeVar("Value")

ERRORS: Final = ("error=EIO", "error=ENOSPC")
SAMPLED_KILLS: Final = {"receiver": 3, "sender": 1, "start": 1, "first start": 1}
SAMPLED_ERRORS: Final = 2
_ENOUGH: Final = 400
"""No call happens so often: the search for the last index went wrong."""

RENAME: Final = "rename/renameat/renameat2"
FSYNC: Final = "fsync/fdatasync"
_SESSION: Final = (
    "ftruncate flock pwrite64 fchmod utimensat recvfrom sendto mkdirat symlinkat syncfs linkat "
    f"unlinkat write {FSYNC} {RENAME}"
).split()
_START: Final = f"mkdirat flock fchmod unlinkat syncfs listen write {FSYNC}".split()
_DISK: Final = f"fchmod ftruncate linkat mkdirat pwrite64 symlinkat syncfs {FSYNC} {RENAME}".split()


def kill_points() -> list[Point]:
    return [
        *(Point("receiver", call) for call in _SESSION),
        Point("receiver", "openat", (PARTIALS,)),
        *(Point("sender", call) for call in ("readv", "sendto", "recvfrom", "write")),
        *(Point(side, call) for side in STARTS for call in _START),
        *(Point(side, "openat", ("received", "received/.xfer", PARTIALS)) for side in STARTS),
    ]


def error_points() -> list[Point]:
    return [
        *(Point("receiver", call) for call in _DISK),
        Point("receiver", "openat", (PARTIALS,)),
    ]


# --- which faults


def chain(job: Job, home: Path, point: Point, effect: str) -> list[Struck]:
    """A fault at the first, the second, the third call, until two in a row are not reached."""
    home.mkdir()
    tried: list[Struck] = []
    while len(tried) < 2 or tried[-1].hit or tried[-2].hit:
        assert len(tried) < _ENOUGH
        index = len(tried) + 1
        tried.append(strike(job, home / str(index), Fault(point, effect, index)))
    return tried


def reached(job: Job, home: Path, points: Sequence[Point]) -> dict[Point, int]:
    """How often each of `points`, which differ in the call only, is met in one run."""
    home.mkdir()
    together = replace(points[0], call="/".join(point.call for point in points))
    SIDES[together.side](job, home, together.options(home))
    lines = re.findall(r"^(\d+) +(\w+)\(", (home / "trace").read_text(), re.MULTILINE)
    most: dict[Point, int] = {}
    for (_, call), count in Counter(lines).items():
        for point in points:
            if point.covers(call):
                most[point] = max(count, most.get(point, 0))
    return most


def sample(job: Job, home: Path, some: random.Random) -> list[Fault]:
    """For some calls of each kind, one index that a run without faults would reach."""
    home.mkdir()
    points = sorted(kill_points(), key=_alike)
    groups = [list(alike) for _, alike in itertools.groupby(points, _alike)]
    runs = in_threads(functools.partial(reached, job), home, [(group,) for group in groups])
    counts = {point: count for run in runs for point, count in sorted(run.items(), key=repr)}
    kills = [
        (point, KILL)
        for side, many in SAMPLED_KILLS.items()
        for point in some.sample([point for point in counts if point.side == side], many)
    ]
    failing = some.sample([point for point in counts if point in error_points()], SAMPLED_ERRORS)
    errors = [(point, some.choice(ERRORS)) for point in failing]
    return [
        Fault(point, effect, some.randint(1, counts[point])) for point, effect in kills + errors
    ]


def _alike(point: Point) -> tuple[str, tuple[str, ...]]:
    return point.side, point.paths


def in_threads(
    work: Callable[..., Value], home: Path, arguments: Sequence[tuple[object, ...]]
) -> list[Value]:
    """`work` with a directory of its own, and each of `arguments`."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        futures = [
            threads.submit(work, home / str(number), *each) for number, each in enumerate(arguments)
        ]
        try:
            return [future.result() for future in futures]
        finally:
            threads.shutdown(cancel_futures=True)


# --- the tests


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    faults.require_strace()
    return faults.mixed_job(tmp_path_factory.mktemp("job"))


@pytest.mark.timeout(300)
def test_a_fault_at_any_step_breaks_no_promise(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = sample(job, tmp_path / "sample", random.Random(faults.SEED))
    tried = in_threads(functools.partial(strike, job), tmp_path, [(fault,) for fault in chosen])
    require_nothing_broken(tried, capsys)


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
def test_a_fault_at_every_step_breaks_no_promise(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chains = [(point, KILL) for point in kill_points()]
    chains += [(point, error) for point in error_points() for error in ERRORS]
    tried = in_threads(functools.partial(chain, job), tmp_path, chains)
    require_nothing_broken([one for each in tried for one in each], capsys)


def test_a_kill_between_the_two_steps_of_an_install_leaves_no_partial(
    job: Job, tmp_path: Path
) -> None:
    """A file that came in parts has both names, and a second run finds it complete."""
    (tmp_path / "empty").mkdir()
    parts = Job(
        received=tmp_path / "empty",
        source=job.source / "parts.bin",
        old={},
        new={"parts.bin": job.new["job/parts.bin"]},
    )
    struck = strike(parts, tmp_path / "try", Fault(Point("receiver", "unlinkat"), KILL, 1))
    assert struck.hit
    assert not struck.broken, struck


def require_nothing_broken(tried: Sequence[Struck], capsys: pytest.CaptureFixture[str]) -> None:
    hit = [one for one in tried if one.hit]
    kills = sum(one.fault.effect == KILL for one in hit)
    broken = [str(one) for one in tried if one.broken]
    line = f"{kills} kills, {len(hit) - kills} disk errors, {len(broken)} losses"
    faults.say(capsys, line)
    assert not broken, "\n".join([line, *broken])
    assert hit
