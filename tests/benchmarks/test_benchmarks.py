"""The benchmarks themselves, at a scale that says nothing about speed."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import works
from tests.benchmarks.contender import Workspace
from tests.benchmarks.delay import delayed
from tests.benchmarks.processes import BenchmarkError, Child

CONTENDERS = [
    "xfer",
    "xfer unflushed",
    "rsync daemon",
    "flushed rsync daemon",
    "scp",
    "rsync over ssh",
    "tar through nc",
    "md5sum",
]
SENDS_ALWAYS_EVERYTHING = {"scp", "tar through nc", "md5sum"}


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """What runs the benchmarks below a directory of this test's own."""
    return [sys.executable, "-m", "tests.benchmarks", "--on", str(tmp_path), "--scale", "0.001"]


def rows(markdown: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table below `heading`, by their first cell."""
    table = markdown.partition(heading)[2].split("\n\n")[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {first: rest for first, *rest in cells[2:]}


def test_every_contender_is_measured_or_named_as_left_out(
    command: list[str], tmp_path: Path
) -> None:
    saved = tmp_path / "runs.json"
    options = ["--only", "c,f", "--rounds", "1", "--contenders", ",".join(CONTENDERS)]
    done = subprocess.run(
        [*command, *options, "--json", saved], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(saved.read_text())
    by_letter: dict[str, Any] = {work["letter"]: work["runs"] for work in record["works"]}
    for letter, heading in (("c", "**c: "), ("f", "**f: ")):
        table = rows(done.stdout, heading)
        assert set(table) == set(by_letter[letter])
        for name, (median, _range, ratio, _) in table.items():
            (run,) = by_letter[letter][name]
            (baseline,) = by_letter[letter]["xfer"]
            assert float(median) == pytest.approx(run["seconds"], abs=0.001)
            assert float(ratio) == pytest.approx(baseline["seconds"] / run["seconds"], abs=0.01)
        assert set(by_letter[letter]["xfer"][0]["peaks"]) == {"sender", "receiver"}
    assert set(by_letter["c"]) | set(record["left_out"]) == set(CONTENDERS)
    assert set(by_letter["f"]) == set(by_letter["c"]) - SENDS_ALWAYS_EVERYTHING
    assert list(tmp_path.iterdir()) == [saved]


@pytest.mark.exhaustive
def test_many_clients_are_measured(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "--only", "clients", "--rounds", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    small, large = rows(done.stdout, "**clients: ").values()
    assert (small[0], large[0]) == ("xfer", "xfer")
    assert float(small[3].split()[0]) > 0


def test_an_interrupted_benchmark_leaves_neither_processes_nor_files(
    command: list[str], tmp_path: Path
) -> None:
    measuring = subprocess.Popen(
        [*command, "--only", "d", "--rounds", "1000", "--contenders", "xfer"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert measuring.stderr
    with measuring.stderr:
        assert "d, round 1/1000: xfer" in measuring.stderr.readline()
        measuring.send_signal(signal.SIGINT)
        assert measuring.stderr.read().endswith("benchmarks: interrupted\n")
    assert measuring.wait() == 130
    assert list(tmp_path.iterdir()) == []
    assert not [pid for pid in os.listdir("/proc") if str(tmp_path) in command_line(pid)]


def command_line(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_an_xfer_that_does_not_start_is_a_sentence(command: list[str]) -> None:
    options = ["--only", "d", "--xfer", "mine=false"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "benchmarks: mine: false did not start: it said nothing\n"


@pytest.mark.parametrize("harm", ["changed", "missing", "surplus", "beside"])
def test_what_differs_is_not_taken_for_the_same(tmp_path: Path, harm: str) -> None:
    source = works.many_files(tmp_path / "source", 3, 10).source
    copied = works.many_files(tmp_path / "arrived", 3, 10).source
    for file in source.rglob("*.bin"):
        (copied / file.relative_to(source)).write_bytes(file.read_bytes())
    works.require_same(source, copied.parent)
    victim = next(copied.rglob("*.bin"))
    match harm:
        case "changed":
            victim.write_bytes(b"0123456789")
        case "missing":
            victim.unlink()
        case "surplus":
            (copied / "surplus").mkdir()
        case _:
            (copied.parent / "beside").touch()
    with pytest.raises(BenchmarkError, match="what arrived is not what was sent"):
        works.require_same(source, copied.parent)


def test_one_file_in_a_hundred_is_changed_in_content_and_time(tmp_path: Path) -> None:
    work = works.PLANS["f"].make(tmp_path, 0.02)
    assert work.before
    before, after = work.before, work.source
    names = [file.relative_to(after) for file in after.rglob("*.bin")]
    contents = [n for n in names if (before / n).read_bytes() != (after / n).read_bytes()]
    times = [n for n in names if (before / n).stat().st_mtime != (after / n).stat().st_mtime]
    assert (len(names), len(contents), contents) == (200, 2, times)


def test_the_long_line_delays_and_does_not_throttle(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, os.environ, timeout=20)
    stream = [sys.executable, str(Path(works.__file__).with_name("plain_stream.py"))]
    with workspace.start([*stream, "sink"]) as sink:
        port = int(sink.wait_for(r":(\d+)\n")[1])
        with delayed(port, 0.3) as far:
            began_at = os.times().elapsed
            workspace.run([*stream, "source", str(far), str(64 * works.MIB)])
            assert 0.6 <= os.times().elapsed - began_at < 5


def test_a_child_that_takes_too_long_is_ended() -> None:
    with Child(["sleep", "60"]) as child:
        with pytest.raises(BenchmarkError, match=re.escape("sleep took longer than 0.1 s")):
            child.succeed(0.1)
        assert child.end().code == -signal.SIGTERM


def test_the_cost_of_a_snapshot_is_measured_step_by_step() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.snapshots", "3000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50)
    assert (
        len(re.findall(r"^\| [a-z, ]+ \| \d+\.\d\d \| \d+\.\d\d \| \d+ \|$", done.stdout, re.M))
        == 8
    )
    assert done.stderr == ""
