"""One fault: a system call of one process that never happens, and what that broke.

The process is killed as it enters the call, or is told that the disk fails.
"""

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.support import faults
from tests.support.faults import PLAINTEXT, Job
from tests.support.processes import (
    Finished,
    Log,
    end,
    environment,
    finish,
    receiving,
    start,
    wait_until,
)

KILL: Final = "signal=KILL"
PARTIALS: Final = "received/.xfer/partials"
SEND: Final = ("--json", "--quiet", "--timeout", "10")


@dataclass(frozen=True, slots=True)
class Point:
    """A system call (one that several names have), of one side; if `paths`, only on these."""

    side: str
    call: str
    paths: tuple[str, ...] = ()

    def covers(self, call: str) -> bool:
        return call in self.call.split("/")

    def options(self, home: Path, fault: str = "") -> list[str]:
        calls = ",".join(f"?{name}" for name in self.call.split("/"))
        below = [option for path in self.paths for option in ("-P", str(home / path))]
        inject = ["-e", f"inject={calls}:{fault}"] if fault else []
        return ["-o", str(home / "trace"), *below, "-e", f"trace={calls}", *inject]


@dataclass(frozen=True, slots=True)
class Fault:
    point: Point
    effect: str
    index: int

    def __str__(self) -> str:
        return f"{self.point.side} {self.point.call} {self.effect} when={self.index}"


@dataclass(frozen=True, slots=True)
class Struck:
    """What a fault did: whether its call happened at all, and what it broke."""

    fault: Fault
    hit: bool
    broken: Sequence[str]

    def __str__(self) -> str:
        return f"{self.fault}: {'; '.join(self.broken)}"


def strike_receiver(job: Job, home: Path, options: Sequence[str]) -> tuple[Finished, list[str]]:
    """The fault happens in a receiver while it gets the job."""
    job.another(home)
    with receiving(home, PLAINTEXT, prefix=faults.traceable()) as site:
        with faults.attached(site.process, *options):
            done = finish(site.start_send(*SEND, job.source))
        lives = site.process.poll() is None
    broken = []
    if site.process.returncode not in (0, -signal.SIGKILL):
        broken.append(f"the receiver {'stops' if lives else 'dies'} with {site.process.returncode}")
    if "Traceback" in site.log.text:
        broken.append(f"a traceback: {site.log.text}")
    return done, broken


def strike_sender(job: Job, home: Path, options: Sequence[str]) -> tuple[Finished, list[str]]:
    job.another(home)
    with receiving(home, PLAINTEXT) as site:
        command, prefix = site.command(*SEND, job.source), faults.traced(*options)
        return finish(start(command, environment(home), prefix=prefix)), []


def strike_start(job: Job, home: Path, options: Sequence[str]) -> tuple[Finished, list[str]]:
    """The fault happens while a receiver starts and cleans up behind a killed one."""
    (job.another(home) / ".xfer/partials/small").touch()
    return _start_and_stop(home, options), []


def strike_first_start(job: Job, home: Path, options: Sequence[str]) -> tuple[Finished, list[str]]:
    (home / "received").mkdir(parents=True)
    return _start_and_stop(home, options), []


def _start_and_stop(home: Path, options: Sequence[str]) -> Finished:
    words = ["receive", PLAINTEXT, "--dir", str(home / "received"), "--bind", "127.0.0.1"]
    env, null = environment(home), subprocess.DEVNULL
    prefix = faults.traced(*options)
    process = start([*words, "--port", "0"], env, prefix=prefix, stdin=null, stdout=null)
    assert process.stderr
    log = Log(process.stderr)
    wait_until(lambda: "xfer send" in log.text or process.poll() is not None)
    end(process)
    log.join()
    return Finished(process.returncode, "", log.text)


Strike = Callable[[Job, Path, Sequence[str]], tuple[Finished, list[str]]]
STARTS: Final[dict[str, Strike]] = {"start": strike_start, "first start": strike_first_start}
SIDES: Final[dict[str, Strike]] = {
    "receiver": strike_receiver,
    "sender": strike_sender,
    **STARTS,
}


def strike(job: Job, home: Path, fault: Fault) -> Struck:
    """One fault, what it broke, and what a second run did not repair."""
    if fault.point.side == "first start":
        job = replace(job, old={})
    root = home / "received"
    effect = f"{fault.effect}:when={fault.index}"
    home.mkdir()
    try:
        done, broken = SIDES[fault.point.side](job, home, fault.point.options(home, effect))
        hit = is_hit(home / "trace")
        broken += faults.losses(job, root, faults.receipts(done))
        if fault.effect != KILL and fault.point.side == "receiver":
            broken += unexplained(job, done)
        broken += unrepaired(job, home)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        hit, broken = True, [repr(error)]
    if not broken:
        shutil.rmtree(home)
    return Struck(fault, hit, broken)


def is_hit(trace: Path) -> bool:
    return re.search(r"\(INJECTED\)|killed by SIGKILL", trace.read_text()) is not None


def unexplained(job: Job, done: Finished) -> list[str]:
    """Everything has a receipt or a reason, and the exit code says whether all went well."""
    records = {record.get("file_name", ""): record for record in faults.records(done)}
    failed = [record for record in records.values() if record.get("outcome") == "failed"]
    broken = [f"{name} has no answer" for name in job.new.keys() - records.keys()]
    broken += [f"{record['file_name']} has no code" for record in failed if not record["code"]]
    if (done.code == 0) == bool(failed or broken):
        broken.append(f"the exit code is {done.code}: {done.err}")
    return broken


def unrepaired(job: Job, home: Path) -> list[str]:
    """The same command again, to a receiver that knows nothing of the fault."""
    with receiving(home, PLAINTEXT) as site:
        done = site.send(*SEND, job.source)
    broken = faults.losses(job, site.directory, faults.receipts(done))
    if done.code:
        broken.append(f"exit {done.code}: {done.err}")
    if not job.same_as_sent(site.directory):
        broken.append("it is not what was sent")
    if sizes := site.partials():
        broken.append(f"partials of {sizes} bytes are left")
    return [f"after a second run, {what}" for what in broken]
