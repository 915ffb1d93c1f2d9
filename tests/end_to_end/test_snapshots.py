"""Nights of snapshots, and what comes back of each: through real processes, as a user would."""

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import Finished, Site, assert_failed, receiving
from tests.support.snapshots import Client, State, made_by, manifests, state_of
from tests.support.trees import assert_same_tree

SECRETS: Final = {
    key_id: f"xfer-key-{43 * letter}"
    for key_id, letter in zip(("alice", "reader", "above", "below", "other"), "BCDEF", strict=True)
}
DIRECTORIES: Final = {
    "alice": "clients/alice",
    "reader": "clients/alice",
    "above": "clients",
    "below": "clients/alice/docs",
    "other": "clients/bob",
}
ODD: Final = (b"-rf", b"a b ", b"\xff\xfe", "é \U0001f680".encode(), b"back\\slash", b"*?'\"")


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[Site]:
    with receiving(tmp_path, "--access", "read-write", "--insecure-plaintext") as site:
        yield site
    assert "Traceback" not in site.log.text


@pytest.fixture
def client(nas: Site) -> Client:
    return Client(nas)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return first_night(tmp_path / "source" / "docs")


times: Final = itertools.count(1_700_000_000_123_456_789, 1_000_000_001)


def write(path: Path, content: bytes) -> Path:
    """Each with a time of its own, years ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    time = next(times)
    os.utime(path, ns=(time, time))
    return path


def first_night(docs: Path) -> Path:
    write(docs / "a.txt", b"first\n")
    write(docs / "same", b"same\n").chmod(0o604)
    write(docs / "goes", b"goes\n")
    write(docs / "file-then-directory", b"a file\n")
    write(docs / "directory-then-file" / "in" / "it", b"in it\n")
    write(docs / "large", os.urandom(3_000_000))
    for name in ODD:
        write(docs / os.fsdecode(b"odd/" + name), name)
    (docs / "empty").mkdir(mode=0o751)
    (docs / "link").symlink_to("a.txt")
    (docs / "link-then-file").symlink_to("nowhere")
    (docs / "dangling").symlink_to(os.fsdecode(b"../\xff"))
    (docs / "directory-then-file").chmod(0o750)
    return docs


def second_night(docs: Path) -> None:
    write(docs / "a.txt", b"second\n")
    (docs / "same").chmod(0o640)
    (docs / "goes").unlink()
    (docs / "file-then-directory").unlink()
    write(docs / "file-then-directory" / "new", b"new\n")
    shutil.rmtree(docs / "directory-then-file")
    write(docs / "directory-then-file", b"now a file\n")
    (docs / "link").unlink()
    (docs / "link").symlink_to("same")
    (docs / "link-then-file").unlink()
    write(docs / "link-then-file", b"a file\n")
    (docs / os.fsdecode(ODD[2])).mkdir()
    os.rename(docs / "odd" / os.fsdecode(ODD[2]), docs / os.fsdecode(ODD[2]) / "moved")


def third_night(docs: Path) -> None:
    write(docs / "a.txt", b"third!\n")
    write(docs / "large", b"small\n")
    shutil.rmtree(docs / "file-then-directory")
    write(docs / "file-then-directory", b"a file again\n")
    (docs / "directory-then-file").unlink()
    write(docs / "directory-then-file" / "in" / "it", b"in it again\n")
    shutil.rmtree(docs / "odd")


@dataclass(frozen=True)
class Night:
    stamp: str
    tree: Path
    state: State


def three_nights(client: Client, docs: Path) -> list[Night]:
    nights = []
    for number, change in enumerate((None, second_night, third_night)):
        if change:
            change(docs)
        stamp = client.snapshot(docs)
        copy = docs.parent / f"night{number}"
        shutil.copytree(docs, copy, symlinks=True)
        nights.append(Night(stamp, copy, state_of(docs)))
    return nights


@pytest.fixture
def nights(client: Client, docs: Path) -> list[Night]:
    return three_nights(client, docs)


@pytest.mark.parametrize("options", [[], ["--connections", "4"], ["--checksum-all"], ["--dir"]])
def test_each_night_comes_back_whole(
    client: Client, nights: Sequence[Night], tmp_path: Path, options: list[str]
) -> None:
    """Content, modes, times, links: as by `diff -r`, and more."""
    for number, night in enumerate(nights):
        to = tmp_path / f"out{number}"
        to.mkdir()
        done = got(client, options, "docs", "--at", night.stamp, "--to", to)
        assert done.code == 0, done
        assert f"as of nightly {night.stamp}" in done.err
        assert state_of(to / "docs") == night.state
        for tree in (night.tree, to / "docs"):  # diff follows links
            for link in filter(Path.is_symlink, [tree / "dangling", tree / "link-then-file"]):
                link.unlink()
        assert_same_tree(night.tree, to / "docs")


def got(client: Client, options: Sequence[str], *words: str | Path) -> Finished:
    """From the receiver, or with `--dir` from its directory."""
    if "--dir" in options:
        return client.get_from_directory(*words)
    return client.get(*options, *words)


def test_one_file_and_what_it_was_yesterday(
    client: Client, nights: Sequence[Night], tmp_path: Path
) -> None:
    for name in ("now", "then"):
        (tmp_path / name).mkdir()
    assert client.get("docs/a.txt", "--to", tmp_path / "now").code == 0
    assert client.get("docs/a.txt", "--at", nights[1].stamp, "--to", tmp_path / "then").code == 0
    assert (tmp_path / "now/a.txt").read_bytes() == b"third!\n"
    assert (tmp_path / "then/a.txt").read_bytes() == b"second\n"
    streamed = client.get("docs/a.txt", "--at", nights[0].stamp, "--to", "-")
    assert (streamed.code, streamed.out) == (0, "first\n")


def test_the_same_get_again_changes_nothing(
    client: Client, nights: Sequence[Night], tmp_path: Path
) -> None:
    for _ in range(2):
        done = client.get("docs", "--at", nights[0].stamp, "--to", tmp_path, "--json")
        assert done.code == 0, done
    assert done.records[-1]["restored"] == 0
    assert state_of(tmp_path / "docs") == nights[0].state


def test_a_name_that_was_not_there_then_says_when_it_was(
    client: Client, nights: Sequence[Night], tmp_path: Path
) -> None:
    stamp = nights[0].stamp
    last_there = f"docs/goes was last there on {stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}: --at {stamp}"
    (tmp_path / "out").mkdir()
    alone = client.get("docs/goes", "--at", nights[2].stamp, "--to", tmp_path / "out", "--json")
    assert_failed(alone, 6, last_there)
    (failed, summary) = alone.records
    assert (failed["code"], failed["retryable"], summary["retryable"]) == (
        "not_found",
        False,
        False,
    )
    beside = client.get("docs/goes", "docs/a.txt", "--at", "now", "--to", tmp_path / "out")
    assert_failed(beside, 7, last_there)
    assert (tmp_path / "out/a.txt").read_bytes() == b"third!\n"
    never = client.get("docs/never", "--at", "now", "--to", tmp_path / "out")
    assert_failed(never, 6, "there was no docs/never then, nor in any snapshot before")
    assert client.get("docs/goes", "--at", stamp, "--to", tmp_path / "out").code == 0


def test_a_moment_before_the_first_snapshot_is_told(
    client: Client, nights: Sequence[Night], tmp_path: Path
) -> None:
    done = client.get("docs", "--at", "2020-01-01", "--to", tmp_path)
    assert_failed(done, 6, f"the first is of {nights[0].stamp}")
    assert not (tmp_path / "docs").exists()


def test_a_store_without_snapshots_says_so(client: Client, docs: Path, tmp_path: Path) -> None:
    assert client.send(docs).code == 0
    assert_failed(client.get("docs", "--at", "now", "--to", tmp_path), 6, "no complete snapshot")


# Several jobs, several keys


def test_jobs_are_apart_and_a_moment_shows_the_newest_of_each(
    client: Client, tmp_path: Path
) -> None:
    write(tmp_path / "source/docs/a", b"1")
    write(tmp_path / "source/photos/b", b"1")
    docs = client.snapshot(tmp_path / "source/docs", job="docs")
    photos = client.snapshot(tmp_path / "source/photos", job="photos")
    (tmp_path / "source/docs/a").unlink()
    client.snapshot(tmp_path / "source/docs", job="docs")
    (tmp_path / "out").mkdir()
    done = client.get(".", "--at", photos, "--to", tmp_path / "out")
    assert done.code == 0, done
    for chosen in (f"as of photos {photos}", f"as of docs {docs}"):
        assert chosen in done.err
    assert set(state_of(tmp_path / "out")) == {"docs", "docs/a", "photos", "photos/b"}
    for job in ("docs", "photos"):
        assert len(manifests(client.site, job=job)) == (2 if job == "docs" else 1)


def test_a_file_hides_what_an_older_snapshot_of_another_job_has_below_its_name(
    client: Client, tmp_path: Path
) -> None:
    write(tmp_path / "source/docs/x/y", b"in a directory")
    client.snapshot(tmp_path / "source/docs", job="weekly")
    shutil.rmtree(tmp_path / "source/docs/x")
    write(tmp_path / "source/docs/x", b"a file")
    client.snapshot(tmp_path / "source/docs", job="nightly")
    (tmp_path / "out").mkdir()
    done = client.get("docs", "--at", "now", "--to", tmp_path / "out")
    assert done.code == 0, done
    assert (tmp_path / "out/docs/x").read_bytes() == b"a file"


def test_a_name_above_all_that_was_sent_comes_as_a_directory(
    nas: Site, client: Client, tmp_path: Path
) -> None:
    """Nobody has sent that directory, so no line says anything of it."""
    done = nas.send("--snapshot", "stream", "-", "--name", "x/y/z", stdin=b"streamed")
    assert done.code == 0, done
    (tmp_path / "out").mkdir()
    done = client.get("x", "--at", "now", "--to", tmp_path / "out", "--json")
    assert done.code == 0, done
    assert (tmp_path / "out/x/y/z").read_bytes() == b"streamed"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Site]:
    """A receiver with keys whose directories are the same, above, below, and beside."""
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text(
        "".join(
            f'[{key_id}]\nsecret = "{secret}"\ndirectory = "{DIRECTORIES[key_id]}"\n'
            f'access = "{"read" if key_id == "reader" else "read-write"}"\n'
            for key_id, secret in SECRETS.items()
        )
    )
    with receiving(tmp_path, "--keys", str(keys), secret=None) as site:
        yield site
    assert "Traceback" not in site.log.text


def holder(hub: Site, key_id: str) -> Client:
    return Client(hub, key_id, SECRETS[key_id])


def restored(client: Client, to: Path, *words: str) -> dict[str, bytes]:
    """The files that a get at now brings, with --json's word for it that all went well."""
    to.mkdir()
    done = client.get(*words, "--at", "now", "--to", to)
    assert done.code == 0, done
    files = {name: what[-1] for name, what in state_of(to).items() if what[0] == "file"}
    return {name: bytes(content) for name, content in files.items()}  # type: ignore[call-overload]


@pytest.fixture
def shared(hub: Site, tmp_path: Path) -> Site:
    """Alice and Bob have made a snapshot each, and have sent again since."""
    for key_id, words in (("alice", b"hers"), ("other", b"his")):
        source = tmp_path / key_id
        write(source / "docs/a", words)
        write(source / "docs/b", words)
        holder(hub, key_id).snapshot(source / "docs")
        write(source / "docs/a", b"newer")
        assert holder(hub, key_id).send(source / "docs").code == 0
    return hub


def test_who_may_only_read_the_same_directory_gets_the_snapshots_of_others(
    shared: Site, tmp_path: Path
) -> None:
    found = restored(holder(shared, "reader"), tmp_path / "out", "docs")
    assert found == {"docs/a": b"hers", "docs/b": b"hers"}
    refused = holder(shared, "reader").send("--snapshot", "nightly", tmp_path / "alice/docs")
    assert_failed(refused, 6, "may not store anything")


@pytest.mark.parametrize("asked", [".", "alice", "alice/docs"])
def test_who_is_above_gets_the_snapshots_of_all_below_with_their_names(
    shared: Site, tmp_path: Path, asked: str
) -> None:
    found = restored(holder(shared, "above"), tmp_path / "out", asked)
    hers = {"alice/docs/a": b"hers", "alice/docs/b": b"hers"}
    his = {"bob/docs/a": b"his", "bob/docs/b": b"his"}
    if asked == "alice/docs":
        hers = {name.removeprefix("alice/"): content for name, content in hers.items()}
    assert found == (hers | his if asked == "." else hers)


def test_who_is_below_gets_its_part_of_a_snapshot_and_learns_no_more(
    shared: Site, tmp_path: Path
) -> None:
    below = holder(shared, "below")
    assert restored(below, tmp_path / "out", ".") == {"a": b"hers", "b": b"hers"}
    for outside in ("docs/a", "../docs/a", "alice"):
        assert below.get(outside, "--at", "now", "--to", tmp_path / "out").code in (2, 6)


def test_nobody_gets_what_is_beside(shared: Site, tmp_path: Path) -> None:
    assert restored(holder(shared, "other"), tmp_path / "out", ".") == {
        "docs/a": b"his",
        "docs/b": b"his",
    }


def test_a_job_of_the_same_name_is_another_one_for_another_key(hub: Site, tmp_path: Path) -> None:
    """Nothing of one is gone, new or changed for the other."""
    first, second = holder(hub, "alice"), holder(hub, "other")
    write(tmp_path / "one/docs/a", b"1")
    write(tmp_path / "two/docs/b", b"2")
    first.snapshot(tmp_path / "one/docs")
    done = second.send("--json", "--snapshot", "nightly", tmp_path / "two/docs")
    made = made_by(done)
    assert (made["new"], made["changed"], made["gone"]) == (2, 0, 0)
