"""What a job has no more: it stays, or moves to the versions, but never much of it at once."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import (
    Site,
    admit,
    assert_failed,
    environment,
    fake_receiver,
    finish,
    receiving,
    run,
    start,
)
from tests.support.snapshots import Client, made_by, manifests, runs, state_of

SECRETS: Final = {
    key_id: f"xfer-key-{43 * letter}"
    for key_id, letter in zip(("moves", "stays", "replaces", "drops"), "BCDE", strict=True)
}
MANY: Final = 180
HELD: Final = 8


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Site]:
    """A receiver for a key that has gone names moved away, one that has not, and others."""
    with receiving(tmp_path, "--keys", str(keys_file(tmp_path)), secret=None) as site:
        yield site
    assert "Traceback" not in site.log.text


def keys_file(home: Path) -> Path:
    keys = home / "keys"
    keys.touch(0o600)
    keys.write_text(
        "".join(
            f'[{key_id}]\nsecret = "{SECRETS[key_id]}"\ndirectory = "{key_id}"\n{about}\n'
            for key_id, about in {
                "moves": 'access = "read-write"\ngone = "version"',
                "stays": 'access = "read-write"',
                "replaces": 'access = "read-write"\nif_exists = "replace"',
                "drops": 'access = "drop"',
            }.items()
        )
    )
    return keys


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    docs = tmp_path / "source/docs"
    for number in range(MANY):
        file = docs / f"{number % 3}" / f"{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"content %d" % number)
    (docs / "link").symlink_to("nowhere")
    return docs


def holder(site: Site, key_id: str) -> Client:
    return Client(site, key_id, SECRETS[key_id])


def stored(site: Site, key_id: str) -> set[str]:
    return set(state_of(site.directory / key_id))


def expected(docs: Path) -> set[str]:
    return {"docs", *(f"docs/{name}" for name in state_of(docs))}


def remove_some(docs: Path) -> None:
    """A directory with all that is in it, a link, and a file."""
    shutil.rmtree(docs / "0")
    (docs / "link").unlink()
    (docs / "1/1").unlink()


def test_what_is_gone_moves_to_the_versions_and_comes_back_as_of_then(
    hub: Site, docs: Path, tmp_path: Path
) -> None:
    client = holder(hub, "moves")
    first, before = client.snapshot(docs), state_of(docs)
    remove_some(docs)
    client.snapshot(docs)
    assert stored(hub, "moves") == expected(docs)
    kept = hub.directory / ".xfer/versions/moves/docs"
    assert [path.read_bytes() for path in (kept / "1/1").iterdir()] == [b"content 1"]
    (tmp_path / "out").mkdir()
    done = client.get("docs", "--at", first, "--to", tmp_path / "out")
    assert done.code == 0, done
    assert state_of(tmp_path / "out/docs") == before


def test_without_that_it_stays_and_is_no_part_of_the_snapshot(
    hub: Site, docs: Path, tmp_path: Path
) -> None:
    client = holder(hub, "stays")
    client.snapshot(docs)
    everything = expected(docs)
    remove_some(docs)
    client.snapshot(docs)
    assert stored(hub, "stays") == everything
    (tmp_path / "out").mkdir()
    assert client.get("docs", "--at", "now", "--to", tmp_path / "out").code == 0
    assert state_of(tmp_path / "out/docs") == state_of(docs)


def test_what_somebody_else_has_put_there_since_is_left_alone(hub: Site, docs: Path) -> None:
    client = holder(hub, "moves")
    client.snapshot(docs)
    own = hub.directory / "moves/docs/1/1"
    own.unlink()
    own.write_bytes(b"somebody else's")
    (hub.directory / "moves/docs/0/theirs").write_bytes(b"somebody else's")
    remove_some(docs)
    client.snapshot(docs)
    assert stored(hub, "moves") == expected(docs) | {"docs/1/1", "docs/0", "docs/0/theirs"}
    assert own.read_bytes() == b"somebody else's"


def remove_most(docs: Path) -> None:
    for directory in ("0", "1"):
        shutil.rmtree(docs / directory)


def change_most(docs: Path) -> None:
    for path in docs.glob("[01]/*"):
        path.write_bytes(b"encrypted by somebody " + path.name.encode())


@pytest.mark.parametrize("disaster", [remove_most, change_most])
def test_where_much_is_gone_or_changed_the_snapshot_is_held_and_nothing_moves(
    hub: Site, tmp_path: Path, docs: Path, disaster: Callable[[Path], None]
) -> None:
    """As of a disk that is not mounted, or is encrypted. When it is back, all is as ever."""
    whole = tmp_path / "whole"
    shutil.copytree(docs, whole, symlinks=True)
    client = holder(hub, "moves")
    good, everything, before = client.snapshot(docs), expected(docs), state_of(docs)
    disaster(docs)
    held = client.send("--json", "--snapshot", "nightly", docs)
    assert_failed(held, HELD, "is held: ")
    made = made_by(held)
    assert (made["exit_code"], made["complete"], made["code"]) == (HELD, False, "held")
    assert made["gone"] + made["changed"] >= 2 * MANY // 3
    assert not made["retryable"]
    assert stored(hub, "moves") == everything
    hub.log.wait_for(f"snapshot nightly {made['snapshot']}, held: .* {made['gone']} gone")
    (tmp_path / "out").mkdir()
    got = client.get("docs", "--at", "now", "--to", tmp_path / "out")
    assert (got.code, f"as of nightly {good}" in got.err) == (0, True), got
    assert state_of(tmp_path / "out/docs") == before
    shutil.rmtree(docs)
    shutil.copytree(whole, docs, symlinks=True)
    (docs / "2/2").unlink()
    good_again = client.send("--json", "--snapshot", "nightly", docs)
    assert (good_again.code, made_by(good_again)["gone"]) == (0, 1), good_again
    assert stored(hub, "moves") == expected(docs)
    made_so_far = manifests(hub, "moves")
    assert [".incomplete" in path.name for path in made_so_far] == [False, True, False]


def test_where_few_are_most_of_it_they_go(hub: Site, tmp_path: Path) -> None:
    """A job of three files need not be looked at by anybody."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in "abc":
        (docs / name).write_bytes(b"x")
    client = holder(hub, "moves")
    client.snapshot(docs)
    (docs / "a").unlink()
    (docs / "b").unlink()
    client.snapshot(docs)
    assert stored(hub, "moves") == {"docs", "docs/c"}


def test_an_incomplete_run_moves_nothing(hub: Site, docs: Path) -> None:
    client = holder(hub, "moves")
    client.snapshot(docs)
    everything = expected(docs)
    remove_some(docs)
    assert client.send("--snapshot", "nightly", docs, docs / "missing").code == 7
    assert stored(hub, "moves") == everything


# Who has no snapshots


@pytest.mark.parametrize(
    ("key_id", "sentence"),
    [
        ("replaces", "a receiver that replaces older content for good has no snapshots: they need"),
        ("drops", "a key that only adds has no snapshots"),
    ],
)
def test_who_keeps_no_older_content_is_told_before_anything_is_sent(
    hub: Site, docs: Path, key_id: str, sentence: str
) -> None:
    done = holder(hub, key_id).send("--snapshot", "nightly", docs)
    assert_failed(done, 6, sentence)
    assert (stored(hub, key_id) <= {"docs"}, runs(hub), manifests(hub, key_id)) == (True, [], [])


def test_a_receiver_that_replaces_has_none(tmp_path: Path, docs: Path) -> None:
    with receiving(tmp_path, "--if-exists", "replace") as site:
        done = site.send("--snapshot", "nightly", docs)
    assert_failed(done, 6, "they need --if-exists version")
    assert not (site.directory / "docs").exists()


@pytest.mark.parametrize(
    "job", ["", ".", ".hidden", "a/b", "../up", "with space", "ümlaut", 65 * "x", "new\nline", "-"]
)
def test_a_name_that_no_job_can_have_is_wrong_usage(tmp_path: Path, docs: Path, job: str) -> None:
    done = run(tmp_path, "send", f"--snapshot={job}", docs, "127.0.0.1:9")
    if job == "-":
        assert done.code == 4, "a job may be called so"
    else:
        assert_failed(done, 2, "a job's name has 1 to 64 letters, digits, _, - and . (not first)")


def test_an_older_receiver_is_told_in_one_sentence(tmp_path: Path, docs: Path) -> None:
    with fake_receiver(admit) as host:
        words: list[str | Path] = [
            "send",
            "--insecure-plaintext",
            "--snapshot",
            "nightly",
            docs,
            host,
        ]
        done = finish(start(words, environment(tmp_path)))
    assert_failed(done, 6, "the receiver is of an earlier version, which knows no snapshots")
    assert done.err.count("\n") == 1
