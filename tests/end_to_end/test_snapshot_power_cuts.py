"""The power fails: every snapshot that a client was told of is there, and gives back all it has."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cut_disks import MAKERS, Disk, disk_of, in_sample
from tests.support.processes import SECRET, Site, environment, finish, free_port, receiving, start
from tests.support.proxy import Link, Proxy
from tests.support.snapshots import Client, State, manifests, runs, state_of, tree_of


@pytest.fixture(params=[in_sample(name) for name in MAKERS])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with disk_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tree_of(tmp_path / "source" / "docs", 60, 5, 3000)


def next_night(docs: Path, night: int) -> None:
    """Some change, some vanish, a file becomes a directory and the reverse, some are new."""
    for path in (docs / f"{night}").iterdir():
        path.write_bytes(os.urandom(2000 + night))
    shutil.rmtree(docs / "4", ignore_errors=True)
    (docs / "0" / f"{5 * night:02}").unlink()
    (docs / "0" / f"{5 * night:02}").mkdir()
    (docs / "0" / f"{5 * night:02}" / "new").write_bytes(os.urandom(100))
    if (docs / "empty").is_dir():
        (docs / "empty").rmdir()
        (docs / "empty").write_bytes(b"a file")


def keys_file(home: Path) -> Path:
    keys = home / "keys"
    keys.touch(0o600)
    keys.write_text(f'[default]\nsecret = "{SECRET}"\naccess = "read-write"\ngone = "version"\n')
    return keys


def given_back(home: Path, directory: Path, stamp: str, number: int) -> State:
    """What `get --dir` gives of a directory that no receiver has touched since the cut."""
    to = home / f"out{number}"
    to.mkdir()
    words: list[str | Path] = [
        "get",
        "--quiet",
        "docs",
        "--dir",
        directory,
        "--at",
        stamp,
        "--to",
        to,
    ]
    done = finish(start(words, environment(home, None)))
    assert done.code == 0, done
    found = state_of(to / "docs")
    shutil.rmtree(to)
    return found


def test_every_snapshot_that_was_told_survives_and_gives_back_all_its_lines(
    disk: Disk, tmp_path: Path, docs: Path
) -> None:
    """The power fails right after each of three; names that are gone have been moved."""
    told: dict[str, State] = {}
    options = ("--keys", str(keys_file(tmp_path)))
    with receiving(tmp_path, *options, directory=disk.directory) as site:
        for night in range(3):
            if night:
                next_night(docs, night)
            stamp = Client(site).snapshot(docs)
            with disk.cut() as after:
                told[stamp] = state_of(docs)
                for number, (known, state) in enumerate(told.items()):
                    assert given_back(tmp_path, after, known, number) == state


def test_what_a_cut_takes_of_a_run_is_sent_again_to_the_receiver_that_comes_back(
    disk: Disk, tmp_path: Path, docs: Path
) -> None:
    """The power fails after the last receipt, and before the snapshot."""
    port = free_port()
    options = ("--access", "read-write", "--insecure-plaintext", "--port", str(port))
    with ExitStack() as power, ExitStack() as again:
        site = power.enter_context(receiving(tmp_path, *options, directory=disk.directory))

        def fail_power() -> Iterator[Link]:
            yield Link()
            after = again.enter_context(disk.cut())
            site.process.kill()
            power.close()
            back.append(again.enter_context(receiving(tmp_path, *options, directory=after)))
            yield Link()

        back: list[Site] = []
        with Proxy(port, fail_power()) as proxy:
            through = Client(proxy.leading_to(site))
            done = through.send("--retry-for", "60", "--snapshot", "nightly", docs)
        assert done.code == 0, done
        (manifest,) = manifests(back[0])
        assert ".incomplete" not in manifest.name
        assert runs(back[0]) == []
        stamp = manifest.name.removesuffix(".jsonl.gz")
        assert given_back(tmp_path, back[0].directory, stamp, 0) == state_of(docs)
