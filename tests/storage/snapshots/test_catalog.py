"""Which snapshots a directory sees, and what is in them; what is damaged is named and left out."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.snapshots.making import a_directory, a_file, in_order, place, stamp
from xfer.storage.snapshots.catalog import Catalog, Snapshot, at_or_below
from xfer.storage.snapshots.errors import DamagedManifest
from xfer.storage.snapshots.lines import FailedLine, Line


def no_beat(done: int, size: int) -> None:
    pass


def nights(state_path: Path) -> None:
    """Three nights of a job: b goes, c comes, and d becomes a file."""
    for number, names in enumerate(["a b d/x", "a b", "a c d"]):
        place(state_path, map(a_file, names.split()), completed=stamp(number))


def names_in(catalog: Catalog, snapshot: Snapshot, *names: str) -> list[str]:
    return [line.name for line in catalog.lines(snapshot, names)]


def test_all_snapshots_of_all_keys_and_jobs_are_there_the_oldest_first(
    state: int, state_path: Path
) -> None:
    place(state_path, [a_file("a")], completed=stamp(2))
    place(state_path, [a_file("a")], completed=stamp(1), key_id="bob")
    place(state_path, [FailedLine(name="a")], completed=stamp(3), job="w.1")
    found = list(Catalog(state).snapshots())
    told = [(one.stamp, one.header.key_id, one.header.job, one.is_complete) for one in found]
    assert told == [
        (stamp(1), "bob", "nightly", True),
        (stamp(2), "alice", "nightly", True),
        (stamp(3), "alice", "w.1", False),
    ]


def test_where_nothing_was_ever_sent_there_is_nothing(state: int) -> None:
    catalog = Catalog(state)
    assert list(catalog.snapshots()) == catalog.newest_at(stamp(0)) == []
    assert catalog.last_there("a", stamp(0), no_beat) is None


def test_what_is_no_manifest_by_its_name_is_nobodys(state: int, state_path: Path) -> None:
    directory = place(state_path, [a_file("a")]).parent
    for name in (".lock", ".tmp-1", "notes.txt", "20260231T000000.000000Z.jsonl.gz", "x.jsonl.gz"):
        (directory / name).write_bytes(b"")
    (state_path / "snapshots/..hidden").mkdir()
    (state_path / "snapshots/file").write_bytes(b"")
    catalog = Catalog(state)
    assert len(list(catalog.snapshots())) == 1
    assert catalog.damaged == {}


def test_of_each_job_the_newest_complete_one_at_a_moment_counts(
    state: int, state_path: Path
) -> None:
    nights(state_path)
    place(state_path, [a_file("w")], completed=stamp(1), job="weekly")
    place(state_path, [FailedLine(name="a")], completed=stamp(3))
    catalog = Catalog(state)
    told = [
        [(one.header.job, one.stamp) for one in catalog.newest_at(moment)]
        for moment in ("20200101T000000.000000Z", stamp(0), stamp(1), stamp(9))
    ]
    assert told == [
        [],
        [("nightly", stamp(0))],
        [("nightly", stamp(1)), ("weekly", stamp(1))],
        [("nightly", stamp(2)), ("weekly", stamp(1))],
    ]


def test_the_last_snapshot_that_had_a_name_is_found(state: int, state_path: Path) -> None:
    nights(state_path)
    catalog = Catalog(state)

    def last(name: str, before: int = 9) -> str | None:
        found = catalog.last_there(name, stamp(before), no_beat)
        return found.stamp if found else None

    assert [last("a"), last("b"), last("c"), last("d/x")] == [*map(stamp, [2, 1, 2, 0])]
    assert (last("d", 2), last("a", 1), last("x"), last("a", 0)) == (stamp(0), stamp(0), None, None)


@pytest.mark.parametrize(
    ("directory", "shown"),
    [
        ("", {"", "alice", "alice/docs", "bob"}),
        ("alice", {"", "alice", "alice/docs"}),
        ("alice/docs", {"", "alice", "alice/docs"}),
        ("alice/docs/a", {"", "alice", "alice/docs"}),
        ("alic", {""}),
        ("bob", {"", "bob"}),
    ],
)
def test_a_directory_sees_what_is_below_it_whoever_sent_it(
    state: int, state_path: Path, directory: str, shown: set[str]
) -> None:
    for number, of_key in enumerate(["", "alice", "alice/docs", "bob"]):
        lines = [a_file(f"{of_key}/f".lstrip("/")), a_file("alice/docs/a/deep")]
        place(state_path, lines, key_id=f"k{number}", directory=of_key)
    catalog = Catalog(state, directory)
    found = list(catalog.snapshots())
    assert {one.header.directory for one in found} == shown
    for one in found:
        assert catalog.shows_all_of(one) == (
            not directory or f"{one.header.directory}/".startswith(f"{directory}/")
        )
    (first,) = (one for one in found if one.header.directory == "")
    inside = "alice/docs/a/deep"
    if not directory:
        assert names_in(catalog, first) == [inside, "f"]
    elif inside.startswith(f"{directory}/"):
        assert names_in(catalog, first) == [inside.removeprefix(f"{directory}/")]
    else:
        assert names_in(catalog, first) == []


def test_names_are_asked_for_as_they_are_seen(state: int, state_path: Path) -> None:
    lines: list[Line] = [
        a_directory("k/d"),
        a_file("k/d/x"),
        a_file("k/d.x"),
        a_file("k/e/y"),
        a_file("d/x"),
    ]
    place(state_path, lines, directory="")
    (snapshot,) = Catalog(state).snapshots()
    catalog = Catalog(state, "k")
    assert names_in(catalog, snapshot) == ["d", "d/x", "d.x", "e/y"]
    assert names_in(catalog, snapshot, "d") == ["d", "d/x"]
    assert names_in(catalog, snapshot, "e", "d/x") == ["d/x", "e/y"]
    assert names_in(catalog, snapshot, "e/y/z", "k", "") == []


NAMES = st.lists(st.text("ab-", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)


@given(st.lists(NAMES), st.lists(NAMES, min_size=1))
def test_what_is_below_some_names_is_found_in_one_pass(there: list[str], asked: list[str]) -> None:
    lines = in_order(map(a_file, there))
    expected = [
        line
        for line in lines
        if any(line.name == name or line.name.startswith(f"{name}/") for name in asked)
    ]
    assert list(at_or_below(lines, asked)) == expected


def test_no_more_is_read_than_it_takes() -> None:
    read = []

    def lines() -> object:
        for name in "abcdef":
            read.append(name)
            yield a_file(name)

    assert [line.name for line in at_or_below(lines(), ["b"])] == ["b"]  # type: ignore[arg-type]
    assert read == ["a", "b", "c"]


def test_damaged_ones_are_named_once_and_the_others_still_work(
    state: int, state_path: Path
) -> None:
    nights(state_path)
    directory = state_path / "snapshots/alice/nightly"
    (directory / f"{stamp(5)}.jsonl.gz").write_bytes(b"")
    (directory / f"{stamp(6)}.jsonl.gz").symlink_to("/etc/passwd")
    os.mkfifo(directory / f"{stamp(7)}.jsonl.gz")
    (directory / f"{stamp(8)}.jsonl.gz").mkdir()
    catalog = Catalog(state)
    for _ in range(2):
        assert [one.stamp for one in catalog.snapshots()] == [*map(stamp, range(3))]
        assert [one.stamp for one in catalog.newest_at(stamp(9))] == [stamp(2)]
        found = catalog.last_there("a", stamp(9), no_beat)
        assert found
        assert found.stamp == stamp(2)
    assert [Path(file).name for file in catalog.damaged] == [
        f"{stamp(number)}.jsonl.gz" for number in (5, 6, 7, 8)
    ]
    for file, error in catalog.damaged.items():
        assert file.startswith(".xfer/snapshots/alice/nightly/")
        assert error.message.startswith(f"{file} is damaged: ")


def test_one_that_is_damaged_in_the_middle_is_met_when_it_is_read(
    state: int, state_path: Path
) -> None:
    place(state_path, [a_file("a00001")], completed=stamp(0))
    many = [a_file(f"a{number:05}", size=number) for number in range(20_000)]
    path = place(state_path, many, completed=stamp(1))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    catalog = Catalog(state)
    (newest,) = catalog.newest_at(stamp(9))
    assert newest.stamp == stamp(1)
    with pytest.raises(DamagedManifest):
        names_in(catalog, newest)
    (newest,) = catalog.newest_at(stamp(9))
    assert newest.stamp == stamp(0)
    found = catalog.last_there("a00001", stamp(9), no_beat)
    assert found
    assert found.stamp == stamp(0)


def test_one_whose_name_says_that_it_is_whole_and_its_footer_does_not_is_no_good_one(
    state: int, state_path: Path
) -> None:
    path = place(state_path, [FailedLine(name="a")])
    path.rename(path.with_name(path.name.replace(".incomplete", "")))
    catalog = Catalog(state)
    (snapshot,) = catalog.snapshots()
    assert not snapshot.is_complete
    assert catalog.newest_at(stamp(9)) == []
    assert catalog.last_there("a", stamp(9), no_beat) is None


def test_one_that_is_removed_meanwhile_is_not_called_damaged(state: int, state_path: Path) -> None:
    nights(state_path)
    catalog = Catalog(state)
    found = catalog.snapshots()
    first = next(found)
    for path in (state_path / "snapshots/alice/nightly").iterdir():
        path.unlink()
    assert list(found) == []
    assert catalog.damaged == {}
    with pytest.raises(DamagedManifest, match="removed"):
        names_in(catalog, first)
