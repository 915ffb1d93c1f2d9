"""A commit that is killed at any system call is whole or nothing, and the next one finishes it.

Power cuts are judged by the order of system calls, as in tests/storage/test_commit.py.
"""

import itertools
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.snapshots.nas import Nas, lines_of, opened
from tests.support.tools import working

COMMIT = """
import os, sys
from pathlib import Path
from tests.storage.snapshots.nas import Nas
from xfer.errors import Refused

nas = Nas(Path(sys.argv[1]))
os.write(1, b"begun ")
try:
    os.write(1, nas.commit(sys.argv[2], 4, gone_to_versions=True).stamp.encode())
except Refused as error:
    os.write(1, error.code.encode())
os._exit(0)
"""
RUN = "ab" * 16
CALLS = (
    "open openat mkdir mkdirat flock write pwrite64 ftruncate fsync fdatasync syncfs utimensat"
    " link linkat rename renameat renameat2 unlink unlinkat rmdir close"
)


def prepare(root: Path) -> None:
    """A snapshot, and a run after it: something new, changed, skipped unread and gone."""
    root.mkdir()
    nas = Nas(root)
    nas.snapshot(
        nas.directory("d"), nas.file("d/gone", b"gone"), nas.file("kept", b"kept"),
        nas.file("changed", b"old"), nas.file("also gone", b"gone"),
    )  # fmt: skip
    nas.file("unread", b"unread")
    older = nas.record([nas.file("older", b"1")])
    assert older in nas.runs()
    run = [nas.skip("kept"), nas.file("changed", b"new"), nas.skip("unread"), nas.file("n", b"1")]
    nas.record(run, RUN)
    nas.close()


def commit_apart(root: Path, trace: Path, *inject: str) -> str:
    """What another process that commits has said, killed or not."""
    faults = [option for fault in inject for option in ("-e", f"inject={fault}")]
    calls = ",".join(f"?{call}" for call in CALLS.split())
    working("strace", "-f", "-y", "-o", os.devnull, "-e", "inject=?link:error=EPERM")
    strace = ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={calls}", *faults]
    done = subprocess.run(
        [*strace, sys.executable, "-c", COMMIT, str(root), RUN],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode in (0, -9), done.stderr
    return done.stdout


def calls_of_the_commit(trace: Path) -> list[tuple[str, int]]:
    """Each system call from its begin to its answer, and which of its kind in that process."""
    before, begun, rest = trace.read_text().partition("write(1<")
    commit, answer, _ = rest.partition("write(1<")
    assert answer
    earlier = names_of_calls(before + begun)
    every = earlier + names_of_calls(commit)
    return [(every[n], every[: n + 1].count(every[n])) for n in range(len(earlier), len(every))]


def names_of_calls(trace: str) -> list[str]:
    return re.findall(r"^\d+ +([a-z0-9]+)\(", trace, re.MULTILINE)


@pytest.mark.parametrize("stride", [15, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.timeout(600)
def test_a_kill_at_any_step_leaves_a_whole_snapshot_or_none_and_can_be_finished(
    tmp_path: Path, stride: int
) -> None:
    prepare(tmp_path / "0")
    said = commit_apart(tmp_path / "0", tmp_path / "trace0")
    assert re.fullmatch(r"begun \d{8}T\d{6}\.\d{6}Z", said)
    every = calls_of_the_commit(tmp_path / "trace0")
    assert len(every) > 50

    def attempt(numbered: tuple[int, tuple[str, int]]) -> Path:
        number, (call, occurrence) = numbered
        root = tmp_path / f"{number}"
        prepare(root)
        said = commit_apart(
            root, tmp_path / f"trace{number}", f"{call}:signal=KILL:when={occurrence}"
        )
        assert "begun ".startswith(
            said[:6]
        )  # it may come a call later than the one that was traced
        return root

    points = list(enumerate(every[::-stride], 1))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        roots = list(threads.map(attempt, points))
    placed = [require_whole_or_nothing(root) for root in roots]
    assert {0, 1} <= set(placed)
    for root in roots:
        require_that_the_next_finishes_it(root)
    print(f"{len(points)} kills at {len(every)} calls: {sum(placed)} had placed it")


def committed(root: Path) -> list[Path]:
    """The snapshots of the run."""
    found = []
    for path in sorted((root / ".xfer/snapshots/alice/nightly").glob("*.gz")):
        with opened(path) as manifest:
            lines_of(path)
            if manifest.header().run == RUN:
                found.append(path)
    return found


def require_whole_or_nothing(root: Path) -> int:
    """Whether the run has become a snapshot."""
    placed = committed(root)
    assert len(placed) <= 1
    if not placed:
        assert list((root / f".xfer/runs/alice.{RUN}").glob("0*"))
    for name in ("d/gone", "also gone"):
        kept = [path.read_bytes() for path in (root / ".xfer/versions" / name).glob("*Z")]
        is_there = (root / name).exists()
        assert is_there or kept
        assert not (is_there and placed)
        assert set(kept) <= {b"gone"}
    return len(placed)


def require_that_the_next_finishes_it(root: Path) -> None:
    before = committed(root)
    nas = Nas(root)
    try:
        done = nas.commit(RUN, 4, gone_to_versions=True)
        assert nas.commit(RUN, 4, gone_to_versions=True) == done
    finally:
        nas.close()
    (path,) = committed(root)
    assert path.name == f"{done.stamp}.jsonl.gz"
    assert before in ([], [path])
    assert [line.name for line in lines_of(path)] == ["changed", "kept", "n", "unread"]
    assert (done.footer.gone, done.footer.changed, done.footer.unchanged) == (3, 1, 1)
    assert not (root / "d").exists()
    assert RUN not in nas.runs()
    left = [path.name for path in (root / ".xfer/snapshots").rglob("*")]
    assert [name for name in left if name.startswith(".tmp-")] == []


def events(root: Path, trace: Path) -> list[str]:
    """What matters for a power cut, in order, without repetitions in a row."""
    state = re.escape(str(root / ".xfer"))
    job = rf"\d+<{state}/snapshots/alice/nightly"
    kinds = {
        rf"write\({job}/\.tmp": "write",
        rf"linkat\({job}>": "place",
        rf"fsync\({job}/\.tmp": "flush manifest",
        rf"fsync\({job}>": "flush name",
        rf"(fsync\({job}>|syncfs)": "flush name",
        rf"linkat\(.*<{state}/versions": "keep version",
        rf"fsync\(\d+<{state}/versions": "flush version",
        rf"unlinkat\(\d+<{re.escape(str(root))}[^.]*>": "remove gone",
        rf"rename.*<{state}/runs>": "remove run",
        r'write\(1<.*"20': "answer",
    }
    lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    found = [next((k for p, k in kinds.items() if re.match(p, line)), "") for line in lines]
    return [kind for kind, _ in itertools.groupby(filter(None, found))]


def test_everything_is_on_disk_before_anything_that_relies_on_it(tmp_path: Path) -> None:
    prepare(tmp_path / "dir")
    trace = tmp_path / "trace"
    commit_apart(tmp_path / "dir", trace)
    told = events(tmp_path / "dir", trace)
    order = ["keep version", "flush version", "remove gone", "flush manifest", "place"]
    assert [told.index(one) for one in order] == sorted(told.index(one) for one in order)
    after = told[told.index("place") :]
    assert after[:3] == ["place", "flush name", "remove run"]
    assert after[-1] == "answer"
    placed = trace.read_text().partition('.jsonl.gz"')[2]
    for above in ("", "/snapshots", "/snapshots/alice", "/snapshots/alice/nightly"):
        assert f"<{tmp_path / 'dir/.xfer'}{above}>" in placed or "syncfs" in placed


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "call",
    ["fsync", *(pytest.param(call, marks=pytest.mark.exhaustive) for call in ("linkat", "write"))],
)
def test_a_disk_that_fails_is_told_and_nothing_relies_on_it(tmp_path: Path, call: str) -> None:
    prepare(tmp_path / "0")
    commit_apart(tmp_path / "0", tmp_path / "trace0")
    every = [n for name, n in calls_of_the_commit(tmp_path / "trace0") if name == call]
    assert every
    for number, occurrence in enumerate(every, 1):
        root = tmp_path / f"{number}"
        prepare(root)
        fault = f"?{call}:error=EIO:when={occurrence}"
        said = commit_apart(root, tmp_path / f"trace{number}", fault)
        assert len(committed(root)) == int(said != "begun storage")
        require_that_the_next_finishes_it(root)
