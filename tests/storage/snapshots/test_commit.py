"""A run becomes a snapshot: once, whole, and with the content of every name known, or named."""

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.snapshots.making import RUN, a_directory, a_file, in_order
from tests.storage.snapshots.nas import Nas, lines_of, opened
from tests.support.forks import elsewhere
from tests.support.local_stores import open_descriptors
from tests.support.snapshots import age
from xfer.errors import Cancelled, Code, Refused
from xfer.storage.snapshots import stamps
from xfer.storage.snapshots.commit import Request, commit
from xfer.storage.snapshots.errors import LinesLost
from xfer.storage.snapshots.given_up import tidy
from xfer.storage.snapshots.lines import FailedLine, FileLine, NameLine
from xfer.storage.snapshots.manifest import open_placed
from xfer.storage.snapshots.places import MOST_JOBS, Placed
from xfer.storage.snapshots.runs import RunHeader, open_run


@pytest.fixture
def nas(root: Path) -> Iterator[Nas]:
    made = Nas(root)
    yield made
    made.close()


def names_of(path: Path) -> list[str]:
    return [line.name for line in lines_of(path)]


def test_a_run_becomes_a_manifest_that_says_all_there_is_to_say(nas: Nas, root: Path) -> None:
    lines: list[NameLine] = [
        nas.directory("docs"),
        nas.file("docs/a.txt", b"a"),
        nas.link("docs/l", "a.txt"),
    ]
    run = nas.record(lines)
    done = nas.commit(run, 3)
    (path,) = nas.manifests()
    assert path.name == f"{done.stamp}.jsonl.gz"
    assert lines_of(path) == in_order(lines)
    with opened(path) as manifest:
        header, footer = manifest.header(), manifest.footer()
    assert (header.job, header.key_id, header.run) == ("nightly", "alice", run)
    assert (header.roots, header.host, header.completed) == (("docs",), "pc", done.stamp)
    assert header.began < done.stamp
    assert footer == done.footer
    assert (footer.names, footer.files, footer.directories, footer.links) == (3, 1, 1, 1)
    assert (footer.bytes, footer.new, footer.complete, footer.failed) == (1, 3, True, 0)
    assert nas.runs() == []
    for made in (root / ".xfer/snapshots").rglob("*"):
        assert stat.S_IMODE(made.stat().st_mode) & 0o077 == 0


def test_each_snapshot_is_compared_with_the_complete_one_before(nas: Nas) -> None:
    kept, grown, gone = (nas.file(name, name.encode()) for name in ("kept", "grown", "gone"))
    nas.snapshot(kept, grown, gone, nas.link("l", "a"))
    nas.snapshot(nas.file("other", b"1"), complete=False)  # counts for nothing
    os.unlink(nas.root / "l")
    done = nas.snapshot(kept, nas.file("grown", b"more"), nas.link("l", "b"), nas.file("new", b""))
    counted = done.footer
    assert (counted.new, counted.changed, counted.unchanged, counted.gone) == (1, 2, 1, 1)
    assert (nas.root / "gone").exists()


def test_other_jobs_and_keys_are_not_compared(nas: Nas) -> None:
    nas.snapshot(nas.file("a", b"1"))
    run = nas.record([nas.file("b", b"1")], job="weekly")
    assert nas.commit(run, 1, job="weekly").footer.gone == 0
    nas.key_id = "bob"
    assert nas.snapshot(nas.file("c", b"1")).footer.gone == 0


class Counting:
    """Contents that count what is opened."""

    def __init__(self, nas: Nas) -> None:
        self.opened: list[str] = []
        self._open = nas.contents.open
        nas.contents.open = self.open  # type: ignore[method-assign, assignment]

    def open(self, name: str) -> object:
        self.opened.append(name)
        return self._open(name)


def test_what_was_skipped_is_read_once_and_never_again_while_it_is_the_same(nas: Nas) -> None:
    known = nas.file("a", b"content")
    counting = Counting(nas)
    nas.snapshot(nas.skip("a"))
    nas.snapshot(nas.skip("a"))
    assert counting.opened == ["a"]
    for path in nas.manifests():
        (line,) = lines_of(path)
        assert isinstance(line, FileLine)
        assert line.md5 == known.md5
    nas.file("a", b"content")
    os.utime(nas.root / "a", ns=(1, 1))
    nas.snapshot(nas.skip("a"))
    assert counting.opened == ["a", "a"]


def test_there_are_signs_of_life_while_it_is_read(
    nas: Nas, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xfer.storage.snapshots.hashing._BEAT_SECONDS", 0.0)
    with open(root / "large", "wb") as file:
        file.truncate(5 * 2**20)
    beats: list[tuple[int, int]] = []
    request = Request(key_id="alice", job="nightly", run=nas.record([nas.skip("large")]), names=1)
    commit(nas.backing, request, lambda done, size: beats.append((done, size)))
    assert [one for one in beats if one[1]] == [(n * 2**20, 5 * 2**20) for n in range(1, 6)]


@pytest.mark.parametrize("size", [5 * 2**20 + 1, 2 * 2**20])
def test_what_changes_while_it_is_read_gets_no_digest(
    nas: Nas, root: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("xfer.storage.snapshots.hashing._BEAT_SECONDS", 0.0)
    (root / "large").write_bytes(bytes(5 * 2**20))
    run = nas.record([nas.skip("large")])

    def change(done: int, _: int) -> None:
        if done:
            os.truncate(root / "large", size)

    done = commit(nas.backing, Request(key_id="alice", job="nightly", run=run, names=1), change)
    assert [line.name for line in done.failures] == ["large"]
    assert not done.footer.complete


def test_who_ends_it_while_it_is_read_can_ask_again(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xfer.storage.snapshots.hashing._BEAT_SECONDS", 0.0)
    nas.file("a", b"content")
    run = nas.record([nas.skip("a")])

    def gone(done: int, size: int) -> None:
        raise Cancelled("gone")

    descriptors = open_descriptors()
    request = Request(key_id="alice", job="nightly", run=run, names=1)
    with pytest.raises(Cancelled):
        commit(nas.backing, request, gone)
    assert (nas.manifests(), open_descriptors()) == ([], descriptors)
    assert nas.commit(run, 1).footer.complete


def test_what_was_skipped_and_then_replaced_is_found_among_its_versions(nas: Nas) -> None:
    old = nas.file("d/a", b"old")
    skipped = nas.skip("d/a")
    nas.file("d/a", b"new")
    done = nas.snapshot(skipped)
    (line,) = lines_of(nas.manifests()[0])
    assert isinstance(line, FileLine)
    assert (done.footer.complete, line.md5) == (True, old.md5)


def test_what_was_skipped_and_moved_with_its_directory_is_found(nas: Nas) -> None:
    old = nas.file("d/a", b"old")
    skipped = nas.skip("d/a")
    nas.file("d", b"a file now")
    nas.snapshot(skipped)
    (line,) = lines_of(nas.manifests()[0])
    assert isinstance(line, FileLine)
    assert line.md5 == old.md5


def test_what_was_skipped_and_is_nowhere_any_more_fails_and_is_named(nas: Nas, root: Path) -> None:
    nas.file("a", b"1")
    skipped = nas.skip("a")
    (root / "a").unlink()
    (root / "a").write_bytes(b"2")  # of the same size
    done = nas.snapshot(skipped, nas.file("b", b"2"))
    assert [line.name for line in done.failures] == ["a"]
    assert (done.footer.failed, done.footer.names, done.footer.complete) == (1, 1, False)
    (path,) = nas.manifests()
    assert path.name.endswith(".incomplete.jsonl.gz")
    failed, stored = lines_of(path)
    assert isinstance(failed, FailedLine)
    assert (failed.name, stored.name) == ("a", "b")


@pytest.mark.parametrize("rules", [{"complete": False}, {"failed": 1}])
def test_a_run_of_which_something_failed_is_kept_and_called_incomplete(
    nas: Nas, rules: dict[str, int]
) -> None:
    done = nas.snapshot(nas.file("a", b"1"), **rules)
    (path,) = nas.manifests()
    assert (path.name, names_of(path)) == (f"{done.stamp}.incomplete.jsonl.gz", ["a"])
    assert not done.footer.complete
    assert done.footer.failed == rules.get("failed", 0)


def test_lines_that_were_lost_are_missed_and_the_run_can_be_sent_once_more(
    nas: Nas, root: Path
) -> None:
    lines = [nas.file("a", b"1"), nas.file("b", b"2")]
    run = nas.record(lines)
    (session,) = (root / f".xfer/runs/alice.{run}").glob("0*")
    os.truncate(session, session.stat().st_size - 3)
    with pytest.raises(LinesLost) as caught:
        nas.commit(run, 2)
    assert (caught.value.known, caught.value.expected, caught.value.retryable) == (1, 2, True)
    assert nas.manifests() == []
    nas.record(lines, run)
    assert nas.commit(run, 2).footer.names == 2


def test_a_run_of_which_nothing_is_known_is_missed_too(nas: Nas, root: Path) -> None:
    with pytest.raises(LinesLost):
        nas.commit(RUN, 0)
    run = nas.record([nas.file("a", b"1")])
    (root / f".xfer/runs/alice.{run}/run.json").unlink()
    with pytest.raises(LinesLost):
        nas.commit(run, 1)


def test_a_run_of_another_job_is_refused(nas: Nas) -> None:
    run = nas.record([nas.file("a", b"1")])
    with pytest.raises(Refused) as caught:
        nas.commit(run, 1, job="weekly")
    assert caught.value.code == Code.USAGE


def test_a_commit_that_is_asked_for_twice_is_one(nas: Nas, root: Path) -> None:
    (root / "x").write_bytes(b"")
    lost = nas.skip("x")
    (root / "x").unlink()
    run = nas.record([nas.file("a", b"1"), lost])
    first = nas.commit(run, 2)
    nas.snapshot(nas.file("b", b"1"))
    assert nas.commit(run, 2) == first
    nas.record([nas.file("a", b"1")], run)  # a session that came too late
    assert nas.commit(run, 2) == first
    assert len(nas.manifests()) == 2
    assert nas.runs() == []


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_of_several_who_ask_at_once_one_makes_it(nas: Nas, where: str) -> None:
    run = nas.record([nas.file(f"{number}", b"1") for number in range(200)])

    def ask(_: int) -> bool:
        return bool(nas.commit(run, 200).footer.complete)

    def ask_elsewhere(number: int) -> bool:
        return elsewhere(lambda: ask(number))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask if where == "threads" else ask_elsewhere, range(4)))
    (path,) = nas.manifests()
    assert path.name == f"{nas.commit(run, 200).stamp}.jsonl.gz"


def test_a_key_has_snapshots_of_so_many_jobs(nas: Nas, root: Path) -> None:
    """Nobody who may only write makes them too many to be read; it is told before it sends."""
    nas.snapshot(nas.file("a", b"1"))
    for number in range(MOST_JOBS - 1):
        (root / f".xfer/snapshots/alice/job{number}").mkdir()
    with pytest.raises(Refused, match="snapshots of 1000 jobs already") as refused:
        nas.record([nas.file("a", b"1")], job="more")
    assert refused.value.code == Code.QUOTA
    with pytest.raises(Refused, match="snapshots of 1000 jobs already"):
        nas.commit(32 * "0", job="more")
    assert not (root / ".xfer/snapshots/alice/more").exists()
    nas.snapshot(nas.file("a", b"2"))
    nas.key_id = "bob"
    nas.snapshot(nas.file("b", b"2"))


def placed_again(nas: Nas, times: int) -> None:
    """As many more snapshots, of runs of others."""
    path = nas.manifests()[0]
    for number in range(times):
        shutil.copy(path, path.with_name(f"20000101T000000.{number:06}Z.jsonl.gz"))


def reads() -> int:
    """How many calls of this process have read something so far."""
    return int(Path("/proc/self/io").read_text().split("syscr:")[1].split()[0])


def test_a_commit_reads_few_of_the_snapshots_there_are(nas: Nas) -> None:
    nas.snapshot(nas.file("a", b"1"))
    placed_again(nas, 1000)
    before = reads()
    nas.snapshot(nas.file("a", b"2"))
    assert reads() - before < 500


@pytest.mark.parametrize("is_left", [False, True])
def test_a_commit_that_is_asked_for_again_much_later_is_the_same_one(
    nas: Nas, root: Path, is_left: bool
) -> None:
    """Its run may still be there, of a receiver that was killed before it had removed it."""
    nas.snapshot(nas.file("a", b"0"))
    run = nas.record([nas.file("a", b"1")])
    kept = root / f".xfer/runs/alice.{run}"
    shutil.copytree(kept, root / "kept")
    done = nas.commit(run, 1)
    if is_left:
        shutil.copytree(root / "kept", kept)
    for number in range(50):
        nas.snapshot(nas.file("a", b"%d" % number), complete=number % 2 == 0)
    made = nas.manifests()
    assert nas.commit(run, 1).stamp == done.stamp
    assert (nas.manifests(), nas.runs()) == (made, [])


def test_stamps_increase_whatever_the_clock_does(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ["2026", "2031", "2025", "2031", "2032", "1999"]
    told = []
    for number, year in enumerate(clock):
        monkeypatch.setattr(stamps, "now", lambda year=year: f"{year}1123T030002.999999Z")
        told.append(nas.snapshot(nas.file("a", b"1"), complete=number % 2 == 0).stamp)
    assert told == sorted(set(told))
    assert told[2] == "20311123T030003.000000Z"
    assert told[4] == "20321123T030002.999999Z"


def test_no_snapshot_follows_the_last_moment_there_is(nas: Nas) -> None:
    nas.snapshot(nas.file("a", b"1"))
    (path,) = nas.manifests()
    shutil.copy(path, path.with_name("99991231T235959.999999Z.jsonl.gz"))
    run = nas.record([nas.file("a", b"1")])
    with pytest.raises(Refused, match="no snapshot can follow"):
        nas.commit(run, 1)


def test_a_damaged_snapshot_is_not_compared_with_but_the_one_before_it(nas: Nas) -> None:
    files = [nas.file(f"{number:05}", b"%d" % number) for number in range(900)]
    nas.snapshot(*files[:600])
    for name in ("20990101T000000.000000Z", "20990102T000000.000000Z"):
        nas.snapshot(*files)
        newest = nas.manifests()[-1]
        newest.rename(newest.with_name(f"{name}.jsonl.gz"))
    content = bytearray(nas.manifests()[-1].read_bytes())
    content[len(content) // 2] ^= 1  # is met half-way
    nas.manifests()[-1].write_bytes(content)
    nas.manifests()[-2].write_bytes(b"")
    done = nas.snapshot(*files)
    assert (done.footer.new, done.footer.unchanged) == (300, 600)
    assert done.stamp == "20990102T000000.000001Z"


# names that are gone


def test_names_that_are_gone_move_to_versions_if_that_is_asked_for(nas: Nas, root: Path) -> None:
    stays = nas.file("stays", b"1")
    nas.snapshot(
        stays,
        nas.directory("d"),
        nas.file("d/a", b"a"),
        nas.directory("d/e"),
        nas.file("d/e/b", b"b"),
        nas.link("d/l", "a"),
        nas.directory("kept"),
        nas.file("kept/c", b"c"),
    )
    (root / "kept/mine").write_bytes(b"the owner's")
    done = nas.snapshot(stays, gone_to_versions=True)
    assert (done.footer.gone, done.footer.complete) == (7, True)
    assert sorted(os.listdir(root)) == [".xfer", "kept", "stays"]
    assert os.listdir(root / "kept") == ["mine"]
    assert [nas.versions(name) for name in ("d/a", "d/e/b", "kept/c")] == [[b"a"], [b"b"], [b"c"]]
    (link,) = (root / ".xfer/versions/d/l").iterdir()
    assert os.readlink(link) == "a"


def test_what_somebody_else_has_put_in_their_place_stays(nas: Nas, root: Path) -> None:
    nas.snapshot(nas.file("a", b"1"), nas.link("l", "x"), nas.file("f", b"1"))
    nas.file("a", b"2")
    (root / "l").unlink()
    (root / "l").symlink_to("elsewhere")
    (root / "f").unlink()
    (root / "f").mkdir()
    done = nas.snapshot(gone_to_versions=True)
    assert done.footer.gone == 3
    assert (root / "a").read_bytes() == b"2"
    assert os.readlink(root / "l") == "elsewhere"
    assert (root / "f").is_dir()


def test_many_and_deep_names_move_with_few_descriptors(nas: Nas, root: Path) -> None:
    deep = "/".join("d" * 60)
    files = [nas.file(f"{n}/{deep}/f", b"%d" % n) for n in range(12)]
    nas.snapshot(*files)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + 200, hard))
    try:
        nas.snapshot(gone_to_versions=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [nas.versions(line.name) for line in files] == [[b"%d" % n] for n in range(12)]
    assert not any((root / line.name).exists() for line in files)


def test_nothing_moves_for_an_incomplete_run(nas: Nas, root: Path) -> None:
    nas.snapshot(nas.file("a", b"1"))
    assert not nas.snapshot(gone_to_versions=True, failed=1).footer.complete
    assert (root / "a").exists()


@pytest.mark.parametrize(
    ("before", "touched", "is_held"),
    [(300, 150, False), (300, 151, True), (120, 100, False), (120, 101, True)],
)
def test_when_more_than_half_and_more_than_100_are_gone_or_changed_the_snapshot_is_held(
    nas: Nas, root: Path, before: int, touched: int, is_held: bool
) -> None:
    files = [nas.file(f"{number:03}", b"1") for number in range(before)]
    nas.snapshot(*files)
    changed = [nas.file(line.name, b"2") for line in files[:10]]
    left = [*changed, *files[10 : before - touched + 10]]
    done = nas.snapshot(*left, gone_to_versions=True)
    assert (done.footer.gone, done.footer.changed) == (touched - 10, 10)
    assert (done.footer.held, done.footer.complete) == (is_held, not is_held)
    assert (root / files[-1].name).exists() == is_held
    assert nas.manifests()[-1].name.endswith(".incomplete.jsonl.gz") == is_held
    if is_held:
        done = nas.snapshot(*left, gone_to_versions=True, may_hold=False)
        assert (done.footer.held, done.footer.complete) == (False, True)
        assert not (root / files[-1].name).exists()


# runs that are given up


def test_a_run_that_nobody_came_back_for_is_kept_as_an_incomplete_snapshot(
    nas: Nas, root: Path
) -> None:
    nas.snapshot(nas.file("known", b"1"))
    nas.file("unread", b"1")
    run = nas.record([nas.file("a", b"1"), nas.skip("known"), nas.skip("unread")])
    tidy(nas.backing)
    assert nas.runs() == [run]
    tidy(nas.backing, 0)
    assert nas.runs() == []
    _, given_up = nas.manifests()
    assert given_up.name.endswith(".incomplete.jsonl.gz")
    assert names_of(given_up) == ["a", "known", "unread"]
    assert [type(line) for line in lines_of(given_up)] == [FileLine, FileLine, FailedLine]
    with opened(given_up) as manifest:
        assert (manifest.header().run, manifest.header().abandoned) == (run, True)


def test_whose_client_comes_back_all_the_same_can_still_become_one(nas: Nas) -> None:
    lines = [nas.file("a", b"1"), nas.file("b", b"1")]
    run = nas.record(lines[:1])
    tidy(nas.backing, 0)
    nas.record(lines[1:], run)
    with pytest.raises(LinesLost):
        nas.commit(run, 2)
    nas.record(lines, run)
    assert nas.commit(run, 2).footer.complete


def test_a_run_with_an_open_session_is_not_given_up(nas: Nas) -> None:
    run = nas.record([nas.file("a", b"1")])
    header = RunHeader(job="nightly", began=stamps.now())
    with open_run(nas.state, "alice", run, header) as session:
        tidy(nas.backing, 0)
        nas.snapshot(nas.file("b", b"1"))
        assert run in nas.runs()
        session.record([nas.file("c", b"1")])
    assert nas.commit(run, 2).footer.names == 2


def test_a_later_run_of_the_job_ends_those_before_it(nas: Nas) -> None:
    older = nas.record([nas.file("a", b"1")])
    other = nas.record([nas.file("a", b"1")], job="weekly")
    run = nas.record([nas.file("b", b"1")])
    later = nas.record([nas.file("c", b"1")])
    nas.commit(nas.record([nas.file("d", b"1")]), 1)
    assert set(nas.runs()) == {older, other, run, later}, "their clients may come back"
    age(nas.root / f".xfer/runs/alice.{older}", 4000)
    nas.commit(run, 1)
    assert set(nas.runs()) == {other, later}
    (given_up,) = (path for path in nas.manifests() if ".incomplete" in path.name)
    with opened(given_up) as manifest:
        assert (manifest.header().run, manifest.footer().complete) == (older, False)


def test_what_killed_processes_left_is_removed(nas: Nas, root: Path) -> None:
    nas.snapshot(nas.file("a", b"1"))
    for left in ("snapshots/alice/nightly/.tmp-1", "runs/.tmp-1", "runs/.tmp-2/x"):
        path = root / ".xfer" / left
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    nas.snapshot(nas.file("a", b"1"))
    tidy(nas.backing)
    assert [path.name for path in (root / ".xfer").rglob(".tmp-*")] == []


def test_an_empty_run_that_was_given_up_leaves_nothing(nas: Nas) -> None:
    nas.record([])
    tidy(nas.backing, 0)
    assert (nas.runs(), nas.manifests()) == ([], [])


def test_commits_leak_no_descriptor(nas: Nas) -> None:
    nas.snapshot(nas.file("a", b"1"), nas.directory("d"))
    before = open_descriptors()
    for number in range(5):
        nas.snapshot(nas.file("a", b"%d" % number), gone_to_versions=True)
        nas.file("b", b"1")
        nas.snapshot(nas.skip("b"))
        with pytest.raises(LinesLost):
            nas.commit(nas.record([a_file("x"), a_directory("y")]), 3)
        tidy(nas.backing, 0)
    assert open_descriptors() == before


def test_a_process_without_descriptors_takes_no_manifest_for_damaged(nas: Nas) -> None:
    nas.snapshot(nas.file("a", b"1"))
    (path,) = nas.manifests()
    placed = Placed(path.name.partition(".jsonl")[0], path.parts[-3], path.parts[-2], True)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    state = os.open(path.parents[3], os.O_RDONLY)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (state + 1, before[1]))
        with pytest.raises(OSError, match="Too many open files"):
            open_placed(state, placed)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        os.close(state)
