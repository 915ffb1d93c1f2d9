"""What a run has confirmed is known afterwards, whoever recorded it, and whatever cut it short."""

import os
import stat
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.snapshots.making import RUN, STAMP, a_directory, a_file, a_link, in_order
from tests.support.forks import elsewhere
from xfer.errors import Code, Refused
from xfer.storage.snapshots.lines import NameLine
from xfer.storage.snapshots.places import lock_in, opened
from xfer.storage.snapshots.run_lines import latest, sortable
from xfer.storage.snapshots.runs import MOST_RUNS, Recorder, RunHeader, open_run, read_header

DESCRIBED = RunHeader(job="nightly", directory="alice", roots=("docs",), began=STAMP)


def recorder(state: int, run: str = RUN) -> Recorder:
    return open_run(state, "alice", run, DESCRIBED)


def record(state: int, *batches: Sequence[NameLine], run: str = RUN) -> None:
    """One session of a run."""
    with recorder(state, run) as session:
        for batch in batches:
            session.record(batch)


def known(state: int, run: str = RUN) -> list[NameLine]:
    with opened(state, "runs", f"alice.{run}") as directory:
        return list(latest(sorted(sortable(directory))))


def files_of(state_path: Path) -> list[Path]:
    return sorted((state_path / f"runs/alice.{RUN}").glob("0*"))


def test_what_was_recorded_is_known_in_the_order_of_a_manifest(
    state: int, state_path: Path
) -> None:
    lines: list[NameLine] = [
        a_file("b"),
        a_link("a/l"),
        a_directory("a"),
        a_file("a.txt"),
        a_file("a/\udcff"),
    ]
    record(state, lines[:3], [], lines[3:])
    assert known(state) == in_order(lines)
    with opened(state, "runs", f"alice.{RUN}") as directory:
        assert read_header(directory) == DESCRIBED
    for path in [state_path / "runs", *(state_path / "runs").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_what_it_is_a_run_of_may_be_any_text(state: int) -> None:
    header = RunHeader(job="j", roots=("a\udcff", "ä\n"), excludes=("*\udc80",), began=STAMP)
    for _ in range(2):
        open_run(state, "alice", RUN, header).close()
        with opened(state, "runs", f"alice.{RUN}") as directory:
            assert read_header(directory) == header


def test_a_run_of_more_roots_than_a_manifest_can_name_is_refused(state: int) -> None:
    header = RunHeader(job="j", roots=("r" * 1000,) * 1000, began=STAMP)
    _refused(lambda: open_run(state, "alice", RUN, header), Code.TOO_LARGE)


def test_the_last_to_confirm_a_name_is_believed_whatever_its_clock_says(state: int) -> None:
    early, late = "20200101T000000.000000Z", "20300101T000000.000000Z"
    with recorder(state) as one, recorder(state) as other:
        one.record([a_file(f"x{number}") for number in range(9)])
        one.record([a_file("a", size=1, confirmed=late)])
        other.record([a_file("b", size=1)])
        one.record([a_file("b", size=2)])
        other.record([a_file("a", size=2, confirmed=early), a_file("c", size=1)])
        other.record([a_file("c", size=2, confirmed=early)])
    assert known(state)[:3] == [
        a_file("a", size=2, confirmed=early),
        a_file("b", size=2),
        a_file("c", size=2, confirmed=early),
    ]


def test_a_steady_clock_that_began_anew_with_the_machine_decides_nothing(
    state: int, state_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(state, [a_file("a", size=1)])
    monkeypatch.setattr("xfer.storage.snapshots.runs._boot", lambda: "f" * 8)
    monkeypatch.setattr("time.monotonic_ns", lambda: 5)
    record(state, [a_file("a", size=2)])
    assert known(state) == [a_file("a", size=2)]


def test_threads_and_processes_record_for_one_run_at_once(state: int) -> None:
    lines = [a_file(f"{number:04}") for number in range(4000)]

    def work(number: int) -> bool:
        record(state, *(lines[n : n + 50] for n in range(number * 1000, number * 1000 + 1000, 50)))
        return True

    threads = [threading.Thread(target=work, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    assert elsewhere(lambda: work(3))
    for thread in threads:
        thread.join()
    assert known(state) == lines


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_cut_takes_lines_at_the_end_and_no_others(
    state: int, state_path: Path, stride: int
) -> None:
    lines: list[NameLine] = [a_file("a"), a_directory("b"), a_link("c"), a_file("d\udcff")]
    record(state, lines)
    (file,) = files_of(state_path)
    whole = file.read_bytes()
    for size in range(len(whole), -1, -stride):
        os.truncate(file, size)
        assert known(state) == lines[: max(whole[:size].count(b"\n") - 1, 0)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=60))
def test_rubbish_that_a_power_cut_left_is_no_line(
    state: int, state_path: Path, at: int, rubbish: bytes
) -> None:
    lines = [a_file(name) for name in "abcd"]
    for file in files_of(state_path):
        file.unlink()
    record(state, lines)
    (file,) = files_of(state_path)
    content = file.read_bytes()
    file.write_bytes(content[:at] + rubbish + content[at + len(rubbish) :])
    assert {line.name for line in known(state)} <= {line.name for line in lines}


def test_a_description_that_was_cut_is_written_again(state: int, state_path: Path) -> None:
    record(state, [a_file("a")])
    (state_path / f"runs/alice.{RUN}/run.json").write_bytes(b"")
    with opened(state, "runs", f"alice.{RUN}") as directory:
        assert read_header(directory) is None
    record(state, [a_file("b")])
    with opened(state, "runs", f"alice.{RUN}") as directory:
        assert read_header(directory) == DESCRIBED
    assert known(state) == [a_file("a"), a_file("b")]


@pytest.mark.parametrize("key_id", ["", "a/b", "..", ".", "a" * 65, "a\n"])
def test_a_key_that_cannot_be_is_refused(state: int, state_path: Path, key_id: str) -> None:
    _refused(lambda: open_run(state, key_id, RUN, DESCRIBED), Code.BAD_NAME)
    assert not list(state_path.iterdir())


@pytest.mark.parametrize("run", ["", "..", "0" * 31, "0" * 33, "0" * 31 + "G", "../" + "0" * 29])
def test_a_run_id_that_cannot_be_is_refused(state: int, state_path: Path, run: str) -> None:
    _refused(lambda: recorder(state, run), Code.BAD_NAME)
    assert not list(state_path.iterdir())


@pytest.mark.parametrize("job", ["", ".", "..", ".hidden", "a/b", "a" * 65, "ä", "a\n"])
def test_a_job_that_cannot_be_is_refused(state: int, state_path: Path, job: str) -> None:
    header = RunHeader(job=job, began=STAMP)
    _refused(lambda: open_run(state, "alice", RUN, header), Code.BAD_NAME)
    assert not list(state_path.iterdir())


def test_a_run_of_another_job_or_directory_is_not_gone_on_with(state: int) -> None:
    record(state, [a_file("a")])
    for job, directory in ("other", "alice"), ("nightly", "bob"):
        header = RunHeader(job=job, directory=directory, began=STAMP)
        _refused(partial(open_run, state, "alice", RUN, header), Code.USAGE)
    assert known(state) == [a_file("a")]


def test_a_run_that_is_being_given_up_is_busy(state: int) -> None:
    record(state, [a_file("a")])
    with opened(state, "runs", f"alice.{RUN}") as directory:
        lock = lock_in(directory)
        _refused(lambda: recorder(state), Code.BUSY)
        os.close(lock)
    record(state, [a_file("b")])
    assert known(state) == [a_file("a"), a_file("b")]


def test_a_key_begins_so_many_runs_and_no_more(state: int, state_path: Path) -> None:
    record(state, [a_file("a")])
    for number in range(MOST_RUNS - 1):
        (state_path / f"runs/alice.{number:032x}").mkdir()
    _refused(lambda: recorder(state, "f" * 32), Code.QUOTA)
    record(state, [a_file("b")])  # one that it has goes on
    open_run(state, "bob", RUN, DESCRIBED).close()


def test_what_there_is_no_room_for_is_refused_and_what_follows_is_whole(
    root: Path, mount: Callable[[str, str], Path]
) -> None:
    path = mount("small", "size=64k")
    state = os.open(path, os.O_RDONLY)
    try:
        with recorder(state) as session:
            session.record([a_file("a")])
            ballast = path / "ballast"
            ballast.write_bytes(b"x" * 40_000)
            many = [a_file(f"{number:04}") for number in range(1000)]
            _refused(lambda: session.record(many), Code.NO_SPACE)
            ballast.unlink()
            session.record([a_file("b")])
        assert known(state) == [a_file("a"), a_file("b")]
    finally:
        os.close(state)


def _refused(action: Callable[[], object], code: Code) -> None:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.code == code
