"""`xfer list --snapshots`, and `--at`: what there was."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import xfer
from tests.support.faults import PLAINTEXT
from tests.support.processes import SECRET, Finished, Site, assert_failed, receiving, run


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """It has two snapshots of docs: in the first a.txt, b/c and b/d; in the second a.txt is longer,
    b/d is gone, and e is new."""
    tmp_path = tmp_path_factory.mktemp("nas")
    docs = tmp_path / "docs"
    (docs / "b").mkdir(parents=True)
    for name, size in (("a.txt", 3), ("b/c", 5), ("b/d", 7)):
        (docs / name).write_bytes(bytes(size))
    (docs / "link").symlink_to("a.txt")
    with receiving(tmp_path, "--access", "read-write", PLAINTEXT) as site:
        assert site.send("--snapshot", "nightly", docs).code == 0
        (docs / "a.txt").write_bytes(bytes(30))
        (docs / "b/d").unlink()
        (docs / "e").write_bytes(b"e")
        assert site.send("--snapshot", "nightly", docs).code == 0
        yield site


def listed(nas: Site, *arguments: str, there: bool = False) -> Finished:
    place = ["--dir", str(nas.directory)] if there else ["--insecure-plaintext", nas.host]
    return run(nas.home, "list", *arguments, *place)


def manifests(nas: Site) -> list[Path]:
    return sorted((nas.directory / ".xfer/snapshots/default/nightly").glob("*Z.jsonl.gz"))


def stamps(nas: Site) -> list[str]:
    return [path.name.removesuffix(".jsonl.gz") for path in manifests(nas)]


def sizes(done: Finished) -> dict[str, int]:
    assert done.code == 0, done
    lines = [line.split() for line in done.out.splitlines()]
    return {line[4]: int(line[1]) for line in lines}


@pytest.mark.parametrize("there", [False, True])
def test_snapshots_are_listed_with_what_is_in_each(nas: Site, there: bool) -> None:
    first, second = stamps(nas)
    assert listed(nas, "--snapshots", there=there).out.splitlines() == [
        f"{first} complete   files=3 bytes=15 new=6 changed=0 gone=0 nightly default",
        f"{second} complete   files=3 bytes=36 new=1 changed=1 gone=1 nightly default",
    ]
    *found, summary = listed(nas, "--snapshots", "--json", there=there).records
    assert [one["snapshot"] for one in found] == [first, second]
    assert {key: found[1][key] for key in ("state", "names", "new", "changed", "gone")} == {
        "state": "complete", "names": 6, "new": 1, "changed": 1, "gone": 1,
    }  # fmt: skip
    assert (summary["snapshots"], summary["exit_code"]) == (2, 0)


@pytest.mark.parametrize("there", [False, True])
def test_what_there_was_is_listed_as_what_there_is(nas: Site, there: bool) -> None:
    first, second = stamps(nas)

    def at(stamp: str, *arguments: str) -> Finished:
        return listed(nas, "--at", stamp, *arguments, there=there)

    done = at(first)
    assert done.err == f"xfer: as of nightly {first}\n"
    assert sizes(done) == {"docs": 15}
    below = {"docs/a.txt": 3, "docs/b": 12, "docs/link": 0}
    assert sizes(at(first, "docs")) == below
    assert sizes(at(first, "docs/a.txt", "docs/b")) == {
        "docs/a.txt": 3, "docs/b/c": 5, "docs/b/d": 7,
    }  # fmt: skip
    whole = {"docs": 15} | below | {"docs/b/c": 5, "docs/b/d": 7}
    assert sizes(at(first, "-R")) == whole
    assert list(sizes(at(first, "-R"))) == sorted(whole)
    assert sizes(at(first, "-d", "docs/b")) == {"docs/b": 12}
    assert sizes(at("now", "docs")) == {"docs/a.txt": 30, "docs/b": 5, "docs/e": 1, "docs/link": 0}
    day = f"{first[:4]}-{first[4:6]}-{first[6:8]}"
    assert_failed(at("now", "docs/b/d"), 6, f"docs/b/d was last there on {day}: --at {first}")
    assert_failed(at(second, "docs/never", "docs/e"), 7, "there was no docs/never then")
    link = at(first, "docs/link", "--json").records[0]
    assert (link["type"], link["target"]) == ("symlink", "a.txt")


@pytest.fixture
def newest(nas: Site) -> Iterator[Path]:
    """The newest manifest, which is as it was afterwards."""
    path = manifests(nas)[-1]
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


@pytest.mark.parametrize("where", [-40, 200])
def test_a_damaged_snapshot_is_named_and_passed_over(
    nas: Site, newest: Path, where: int, tmp_path: Path
) -> None:
    first, second = stamps(nas)
    data = bytearray(newest.read_bytes())
    data[where] ^= 0x55
    newest.write_bytes(data)
    passed_over = f"the snapshot nightly {second} is damaged, and was passed over"
    for there in (False, True):
        done = listed(nas, "--at", "now", "docs", there=there)
        assert passed_over in done.err
        assert f"as of nightly {first}" in done.err
        assert sizes(done)["docs/a.txt"] == 3
    (tmp_path / "out").mkdir()
    got = run(
        nas.home, "get", "docs/a.txt", PLAINTEXT, nas.host, "--at", "now", "--to", tmp_path / "out"
    )
    assert (got.code, passed_over in got.err) == (0, True)
    assert (tmp_path / "out/a.txt").read_bytes() == bytes(3)


def test_of_a_snapshot_of_which_only_the_end_is_gone_nothing_is_believed(
    nas: Site, newest: Path
) -> None:
    os.truncate(newest, newest.stat().st_size - 30)
    lines = listed(nas, "--snapshots").out.splitlines()
    assert [line.split()[1] for line in lines] == ["complete", "damaged"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--snapshots", "--versions"], ["--at", "now", "--versions"], ["--snapshots", "-R"],
        ["--snapshots", "--at", "now"], ["--at", "whenever"],
    ],
)  # fmt: skip
def test_what_excludes_each_other_is_wrong_usage(nas: Site, arguments: list[str]) -> None:
    assert listed(nas, *arguments).code == 2


def test_before_the_first_snapshot_there_is_nothing(nas: Site) -> None:
    early = listed(nas, "--at", "2001-01-01")
    assert_failed(early, 6, f"the first is of {stamps(nas)[0]}")


def test_a_program_lists_them_too(nas: Site) -> None:
    found = [*xfer.list(host=nas.host, snapshots=True, secret=SECRET, insecure_plaintext=True)]
    assert all(isinstance(one, xfer.SnapshotInfo) for one in found)
    assert [one.stamp for one in found if isinstance(one, xfer.SnapshotInfo)] == stamps(nas)
    there = [*xfer.list("docs", directory=nas.directory, at=stamps(nas)[0])]
    assert [one.size for one in there if isinstance(one, xfer.Listed)] == [3, 12, 0]


def test_who_sees_a_part_sees_no_counts_of_the_whole(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    part = f"xfer-key-{43 * 'B'}"
    keys.write_text(
        f'[whole]\nsecret = "{SECRET}"\naccess = "read-write"\n'
        f'[part]\nsecret = "{part}"\ndirectory = "docs/b"\naccess = "read"\n'
    )
    keys.chmod(0o600)
    (tmp_path / "docs/b").mkdir(parents=True)
    (tmp_path / "docs/a.txt").write_bytes(b"a")
    (tmp_path / "docs/b/c").write_bytes(b"bc")
    with receiving(tmp_path, "--keys", str(keys), PLAINTEXT) as site:
        sent = site.send("--key-id", "whole", "--snapshot", "nightly", tmp_path / "docs")
        assert sent.code == 0, sent
        mine = ["--insecure-plaintext", "--key-id", "part", site.host]
        snapshots = run(site.home, "list", "--snapshots", *mine, secret=part)
        (line,) = snapshots.out.splitlines()
        assert line.split()[1:] == ["complete", "nightly", "whole"]
        assert sizes(run(site.home, "list", "--at", "now", *mine, secret=part)) == {"c": 2}


def test_directories_without_a_line_of_their_own_are_listed_too(nas: Site) -> None:
    """The last one here: it makes a snapshot of another job."""
    done = nas.send("--snapshot", "dump", "--name", "deep/er/dump", "-", stdin=b"dump")
    assert done.code == 0, done
    assert sizes(listed(nas, "--at", "now"))["deep"] == 4
    assert sizes(listed(nas, "--at", "now", "deep")) == {"deep/er": 4}
    assert sizes(listed(nas, "--at", "now", "-R", "deep")) == {"deep/er": 4, "deep/er/dump": 4}
