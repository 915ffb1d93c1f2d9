"""The power fails after every single step: what has a receipt is on the disk, nothing is lost.

A receiver is traced while it gets a job, and what it did is done again on a
model of a disk (see `disks`), which forgets what was not flushed: all of it,
or a random part. A plan that says `skip` counts as a receipt: its sender tells
its user that the file is there.
"""

import contextlib
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from tests.support import faults
from tests.support.disks import STORING, UNKNOWN, Disk, Lucky, lost
from tests.support.faults import PLAINTEXT, Content, Job
from tests.support.processes import Site, finish, receiving, wait_until
from tests.support.traces import Call, Receipts, read_trace, text_of

_LUCK: Final = (0.1, 0.5, 0.9)
"""How much of what was not flushed survives, beside nothing."""
_AT_ONCE: Final = ("close", "sendto")
"""What these do may have happened as soon as they begin; everything else, once it ended."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    faults.require_strace()
    return faults.mixed_job(tmp_path_factory.mktemp("job"))


# --- recording


@contextlib.contextmanager
def recorded(trace: Path, *inject: str, policy: str = "version") -> Iterator[Site]:
    """A receiver, where `trace` is, of which every step is written down."""
    calls = ",".join(f"?{call}" for call in (*STORING, *UNKNOWN, "sendto"))
    options = ["-xx", "-s", "1048576", "-o", str(trace), "-e", f"trace={calls}"]
    faulty = [option for fault in inject for option in ("-e", f"inject={fault}")]
    prefix = faults.traced(*options, *faulty)
    with receiving(trace.parent, PLAINTEXT, "--if-exists", policy, prefix=prefix) as site:
        yield site


def record(job: Job, trace: Path) -> None:
    """A receiver gets the job, and lives."""
    with recorded(trace) as site:
        done = site.send(job.source)
        assert done.code == 0, done
    assert job.same_as_sent(site.directory)


# --- cutting the power


@dataclass(slots=True)
class Cuts:
    """What was promised so far, how often the power was cut, and what that broke."""

    job: Job
    some: random.Random
    acknowledged: set[str] = field(default_factory=set)
    durable: dict[str, list[Content]] = field(default_factory=dict)
    prefixes: int = 0
    broken: list[str] = field(default_factory=list)

    def cut(self, disk: Disk, call: Call) -> None:
        """Cut the power after `call`, and look."""
        self.prefixes += 1
        worst = disk.after_power_cut(lost)
        for found in (worst, *(disk.after_power_cut(self._luck(share)) for share in _LUCK)):
            self._judge(found, f"after {call.name} on line {call.ended + 1}")
        for name, content in faults.visible(worst).items():
            contents = self.durable.setdefault(name, [])
            if content not in contents:
                contents.append(content)

    def _luck(self, share: float) -> Lucky:
        return lambda: self.some.random() < share

    def _judge(self, found: dict[str, Content], where: str) -> None:
        shown = faults.visible(found)
        broken = faults.broken_names(self.job, found, self.acknowledged)
        broken["was on the disk and is gone"] = [
            name
            for name in self.durable.keys() - shown.keys()
            if not faults.versions_in(found, name)
        ]
        for name, contents in self.durable.items():
            kept = [*faults.versions_in(found, name), *([shown[name]] if name in shown else [])]
            if any(content not in kept for content in contents):
                self.broken.append(f"content of {name} was on the disk and is lost, {where}")
        self.broken += [
            f"{name} {what}, {where}" for what, names in broken.items() for name in names
        ]


def cut_everywhere(job: Job, disk: Disk, *traces: Path) -> Cuts:
    """Cut the power after each step of one receiver after the other."""
    cuts = Cuts(job, random.Random(faults.SEED))
    line = 0
    for trace in traces:
        receipts = Receipts()
        calls = sorted(read_trace(trace, line), key=_when)
        for call in calls:
            if call.name == "sendto":
                names = receipts.take(call)
                cuts.acknowledged |= names
                is_step = bool(names)
            else:
                is_step = disk.apply(call)
            if is_step:
                cuts.cut(disk, call)
        disk.process_ended()
        line = 1 + max(call.ended for call in calls)
    return cuts


def _when(call: Call) -> int:
    return call.began if call.name in _AT_ONCE else call.ended


# --- the tests


def test_a_power_cut_takes_nothing_that_was_acknowledged(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Disk(job.another(tmp_path))
    record(job, tmp_path / "trace")
    require_nothing_lost(cut_everywhere(job, disk, tmp_path / "trace"), capsys)


def test_nor_does_it_where_there_are_no_hard_links(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Disk(job.another(tmp_path))
    with recorded(tmp_path / "trace", "?linkat:error=EPERM") as site:
        assert site.send(job.source).code == 0
    require_nothing_lost(cut_everywhere(job, disk, tmp_path / "trace"), capsys)


@pytest.mark.exhaustive
def test_nor_what_another_session_has_named_and_is_still_flushing(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, disk = _parts(job), Disk(job.another(tmp_path))
    with recorded(tmp_path / "trace", "?fsync,?fdatasync:delay_enter=2s") as site:
        first = site.start_send("--quiet", parts.source)
        wait_until((site.directory / "parts.bin").exists)
        assert site.send("--quiet", "--retry-for", "20", job.source / "parts.bin").code == 0
        assert finish(first).code == 0
    require_nothing_lost(cut_everywhere(parts, disk, tmp_path / "trace"), capsys)


def test_nor_what_another_session_has_named_and_could_not_flush(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk fails each session in its second flush, that of the directory."""
    parts, disk = _parts(job), Disk(job.another(tmp_path))
    with recorded(tmp_path / "trace", "?fsync,?fdatasync:error=EIO:when=2") as site:
        assert site.send("--quiet", parts.source).code
        assert (site.directory / "parts.bin").exists()
        site.send("--quiet", parts.source)
    require_nothing_lost(cut_everywhere(parts, disk, tmp_path / "trace"), capsys)


def _parts(job: Job) -> Job:
    """One file, into a directory that has the older job."""
    content = job.new["job/parts.bin"]
    return replace(job, source=job.source / "parts.bin", new={"parts.bin": content})


@pytest.mark.exhaustive
def test_nor_what_a_third_sender_finds_while_two_others_are_at_it(job: Job, tmp_path: Path) -> None:
    """The first one's flush of the directory began before the second one's content was named."""
    disk, name = Disk(job.another(tmp_path)), "same.name"
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / name).write_bytes(number * b"content")
    delay = "?fsync,?fdatasync:delay_enter=2s"
    with recorded(tmp_path / "trace", delay, policy="replace") as site:
        first = site.start_send("--quiet", tmp_path / "1" / name)
        time.sleep(1)
        second = site.start_send("--quiet", "--retry-for", "20", tmp_path / "2" / name)
        assert finish(first).code == 0
        assert site.send("--quiet", "--retry-for", "20", tmp_path / "2" / name).code == 0
        assert finish(second).code == 0
    for call in sorted(read_trace(tmp_path / "trace"), key=_when):
        if call.name != "sendto":
            disk.apply(call)
        elif b'"skip"' in text_of(call.arguments[1]):
            assert disk.after_power_cut(lost)[name] == b"contentcontent"


KILLS: Final = ("fsync", "linkat", "pwrite64", "renameat,?rename,?renameat2", "unlinkat")


def test_nor_what_a_killed_receiver_left_to_the_next(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = random.Random(faults.SEED)
    cuts = cut_after_kill(job, tmp_path, some.choice(KILLS), some.randint(1, 10))
    require_nothing_lost(cuts, capsys)


def test_nor_what_a_killed_receiver_had_named_and_not_flushed(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is killed in its second flush, that of the directory."""
    parts = _parts(job)
    cuts = cut_after_kill(parts, tmp_path, "fsync", 2)
    assert "parts.bin" in cuts.acknowledged
    require_nothing_lost(cuts, capsys)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", KILLS)
def test_nor_what_a_receiver_that_was_killed_anywhere_left_to_the_next(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    for index in itertools.count(1):
        home = tmp_path / str(index)
        home.mkdir()
        require_nothing_lost(cut_after_kill(job, home, call, index), capsys)
        if "killed by SIGKILL" not in (home / "killed").read_text():
            break


def cut_after_kill(job: Job, home: Path, call: str, index: int) -> Cuts:
    disk = Disk(job.another(home))
    with recorded(home / "killed", f"?{call}:signal=KILL:when={index}") as site:
        site.send(job.source)
    record(job, home / "next")
    return cut_everywhere(job, disk, home / "killed", home / "next")


def require_nothing_lost(cuts: Cuts, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"{cuts.prefixes} steps, {1 + len(_LUCK)} power cuts each: {len(cuts.broken)} losses"
    faults.say(capsys, line)
    assert not cuts.broken, "\n".join([line, *cuts.broken[:20]])
