"""Whichever side of a get is killed, and whenever: no name shows a part, nothing is lost, and
the same command finishes the job and leaves nothing beside it.

See test_kill_at_every_step, which does it to a send; the same holds for what strace reaches.
"""

import functools
import random
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.test_kill_at_every_step import in_threads, require_nothing_broken
from tests.support import faults
from tests.support.faults import Job
from tests.support.get_strikes import strike, target_of
from tests.support.strikes import KILL, PARTIALS, Fault, Point, Struck

_CALLS: Final = (  # noqa: SIM905 (a list of words)
    "mkdir mkdirat flock ftruncate pwrite64 fchmod utimensat recvfrom sendto symlinkat syncfs "
    "linkat unlinkat unlink rmdir write fsync/fdatasync rename/renameat/renameat2"
).split()
GETTER: Final = [
    *(Point("getter", call) for call in _CALLS),
    Point("getter", "openat", (PARTIALS,)),
    Point("getter", "openat", ("received/.xfer", "received/.xfer/passing")),
]
GIVER: Final = [Point("giver", call) for call in ("sendto", "recvfrom", "preadv", "readlinkat")]
_FEW: Final = 8
"""Within which an index is drawn by default: most calls happen as often."""
_ENOUGH: Final = 600


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    faults.require_strace()
    home = tmp_path_factory.mktemp("job")
    return target_of(faults.mixed_job(home), home / "get")


def chain(job: Job, home: Path, point: Point) -> list[Struck]:
    """A kill at the first, the second, the third call, until two in a row are not reached."""
    home.mkdir()
    tried: list[Struck] = []
    while len(tried) < 2 or tried[-1].hit or tried[-2].hit:
        assert len(tried) < _ENOUGH
        index = len(tried) + 1
        tried.append(strike(job, home / str(index), Fault(point, KILL, index)))
    return tried


@pytest.mark.timeout(300)
def test_a_kill_at_any_step_of_a_get_breaks_no_promise(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = random.Random(faults.SEED)
    points = [*some.sample(GETTER, 5), some.choice(GIVER)]
    chosen = [Fault(point, KILL, some.randint(1, _FEW)) for point in points]
    first = Fault(Point("getter", "openat", ("received/.xfer/passing",)), KILL, 1)
    last = Fault(Point("getter", "rmdir"), KILL, 1)
    tried = in_threads(
        functools.partial(strike, job), tmp_path, [(fault,) for fault in (first, last, *chosen)]
    )
    require_nothing_broken(tried, capsys)


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
def test_a_kill_at_every_step_of_a_get_breaks_no_promise(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of calls that are never made, none is hit: which ones are depends on the file system."""
    chains = [(point,) for point in GETTER + GIVER]
    tried = in_threads(functools.partial(chain, job), tmp_path, chains)
    require_nothing_broken([one for each in tried for one in each], capsys)
