"""One kill in a get, of either side, and what that broke: see `strikes`, which does it to a send.

What a send has as its receiver's directory is here the one that is got into.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.support import faults
from tests.support.faults import PLAINTEXT, Job
from tests.support.processes import Finished, Site, environment, finish, receiving, run, start
from tests.support.strikes import Fault, Struck, is_hit

_OPTIONS: Final = ("--access", "read", "--no-fsync")
_GET: Final = (
    "get", PLAINTEXT, "--retry-for", "0", "--timeout", "10", "--json", "--quiet",
    "--if-exists", "version",
)  # fmt: skip
KEPT: Final = [".xfer/versions"]
"""All that a get that has ended well leaves beside what it got."""


def target_of(job: Job, home: Path) -> Job:
    """The same job for a get: the older content is in a plain directory of the user's own."""
    target = home / "received"
    shutil.copytree(job.source.parent / "before", target, symlinks=True)
    return Job(target, job.source, job.old, job.new)


@contextlib.contextmanager
def giving(job: Job, home: Path, prefix: Sequence[str] = ()) -> Iterator[Site]:
    """A receiver that holds the job, and nothing else."""
    served = home / "served"
    shutil.copytree(job.source, served / "job", symlinks=True)
    with receiving(home, PLAINTEXT, *_OPTIONS, directory=served, prefix=prefix) as site:
        yield site


def _words(home: Path, site: Site) -> list[str | Path]:
    return [*_GET, "--to", home / "received", "job", site.host]


def strike_getter(job: Job, home: Path, options: Sequence[str]) -> Finished:
    job.another(home)
    with giving(job, home) as site:
        return finish(start(_words(home, site), environment(home), prefix=faults.traced(*options)))


def strike_giver(job: Job, home: Path, options: Sequence[str]) -> Finished:
    job.another(home)
    with (
        giving(job, home, faults.traceable()) as site,
        faults.attached(site.process, *options),
    ):
        return finish(start(_words(home, site), environment(home)))


SIDES: Final[dict[str, Callable[[Job, Path, Sequence[str]], Finished]]] = {
    "getter": strike_getter,
    "giver": strike_giver,
}


def strike(job: Job, home: Path, fault: Fault) -> Struck:
    """One fault, what it broke, and what the same command did not repair."""
    root = home / "received"
    home.mkdir()
    try:
        effect = f"{fault.effect}:when={fault.index}"
        done = SIDES[fault.point.side](job, home, fault.point.options(home, effect))
        hit = is_hit(home / "trace")
        broken = faults.losses(job, root, faults.receipts(done))
        if fault.point.side == "giver" and done.code not in (0, 4):
            broken.append(f"the getter ends with {done.code}: {done.err}")
        broken += _unrepaired(job, home)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        hit, broken = True, [repr(error)]
    if not broken:
        shutil.rmtree(home)
    return Struck(fault, hit, broken)


def _unrepaired(job: Job, home: Path) -> list[str]:
    """The same command again, from a receiver that lives."""
    root = home / "received"
    shutil.rmtree(home / "served")
    with giving(job, home) as site:
        done = run(home, *_words(home, site))
    broken = faults.losses(job, root, faults.receipts(done))
    if done.code:
        broken.append(f"exit {done.code}: {done.err}")
    if not job.same_as_sent(root):
        broken.append("it is not what the receiver holds")
    left = [f".xfer/{name}" for name in os.listdir(root / ".xfer")]
    if left != KEPT:
        broken.append(f"{left} are left")
    return [f"after a second run, {what}" for what in broken]
