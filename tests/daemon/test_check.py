"""`xfer receive --check`: it finds what is missing, and leaves nothing behind."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.mounts import mounted, overlaid
from tests.support.processes import (
    Finished,
    Site,
    assert_failed,
    environment,
    finish,
    receiving,
    start,
    unprivileged,
)


def check(
    home: Path, *options: str | Path, prefix: Sequence[str] = (), secret: str | None = "s" * 16
) -> Finished:
    command = ["receive", "--check", "--dir", home, "--bind", "127.0.0.1", "--port", "0", *options]
    return finish(start(command, environment(home, secret), prefix=prefix))


def failures(done: Finished) -> list[str]:
    """What is not in place. Every line says what it is about, and how it is."""
    lines = [line.split() for line in done.out.splitlines()]
    assert {line[0] for line in lines} <= {"ok", "FAILED", "?"}
    assert lines[0][1] in ("secret", "keys")
    assert [line[1] for line in lines[1:]] == [
        "directory", "lock", "disk", "port", "identity", "clock", "descriptors",
    ]  # fmt: skip
    assert done.err == ""
    return [line[1] for line in lines if line[0] == "FAILED"]


def test_a_check_of_what_is_in_place_is_code_0_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert (done.code, failures(done)) == (0, [])
    assert list(tmp_path.iterdir()) == []


def test_a_check_before_the_first_start_says_what_is_missing(tmp_path: Path) -> None:
    done = check(tmp_path, secret=None)
    assert (done.code, failures(done)) == (1, ["secret"])
    assert list(tmp_path.iterdir()) == []


def test_a_check_beside_a_receiver_finds_lock_and_port_taken(nas: Site) -> None:
    done = check(nas.home, "--dir", nas.directory, "--port", str(nas.port))
    assert (done.code, failures(done)) == (1, ["lock", "port"])
    assert nas.process.poll() is None


def test_a_check_finds_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "read-only").mkdir(mode=0o555)
    done = check(tmp_path, "--dir", tmp_path / "read-only", prefix=unprivileged())
    assert (done.code, failures(done)) == (1, ["directory"])


def test_a_check_without_a_directory_says_so_once(tmp_path: Path) -> None:
    done = check(tmp_path, "--dir", tmp_path / "nowhere")
    assert (done.code, done.out.count("No such file or directory")) == (1, 1)
    unknown = re.findall(r"(?m)^\? +(\w+) +cannot be told without the directory$", done.out)
    assert unknown == ["lock", "disk", "clock"]


def test_a_check_finds_a_secret_that_others_can_read_and_a_short_one(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("xfer-key-" + 43 * "A")
    secret.chmod(0o644)
    done = check(tmp_path, "--secret-file", secret)
    assert (done.code, failures(done)) == (1, ["secret"])
    assert "others can read" in done.out
    assert failures(check(tmp_path, secret="short")) == ["secret"]


def test_a_check_reads_the_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    old, new = (f'[{name}]\nsecret = "xfer-key-{43 * name}"\n' for name in "AB")
    keys.touch(0o600)
    keys.write_text(f"{old}expires = 2020-01-01\n{new}")
    done = check(tmp_path, "--keys", keys, secret=None)
    assert (done.code, failures(done)) == (0, [])
    assert "1 of 2 open" in done.out
    for text, said in ((f"{old}expires = 2020-01-01\n", "has expired"), ("[A]", "has no secret")):
        keys.write_text(text)
        done = check(tmp_path, "--keys", keys, secret=None)
        assert (done.code, failures(done)) == (1, ["keys"])
        assert said in done.out
    both = check(tmp_path, "--keys", keys, "--secret-file", "s")
    assert_failed(both, 2, "--secret-file or --keys, not both")


def test_a_check_finds_a_spoilt_identity_and_one_that_cannot_be_made(tmp_path: Path) -> None:
    state = tmp_path / "state" / "xfer"
    state.mkdir(parents=True)
    state.chmod(0o555)
    assert failures(check(tmp_path, prefix=unprivileged())) == ["identity"]
    state.chmod(0o755)
    (state / "identity.pem").write_text("spoilt")
    assert failures(check(tmp_path)) == ["identity"]
    assert failures(check(tmp_path, "--insecure-plaintext")) == []


def test_a_check_counts_descriptors(tmp_path: Path) -> None:
    prefix = ["prlimit", "--nofile=500:500"]
    assert failures(check(tmp_path, prefix=prefix)) == ["descriptors"]
    assert failures(check(tmp_path, "--max-connections", "10", prefix=prefix)) == []


IN_MEMORY = "tmpfs is in memory, and keeps nothing when the power fails"
DOUBTS = {
    "volatile": "the overlay was mounted with volatile, and flushes nothing",
    "tmpfs": IN_MEMORY,
    "overlay": f"below overlay, {IN_MEMORY}",
}


@contextlib.contextmanager
def doubted(name: str, home: Path) -> Iterator[Path]:
    with mounted(home / "base", "-t", "tmpfs", "xfer-test") as base:
        if name == "tmpfs":
            yield base
            return
        options = ["volatile"] if name == "volatile" else []
        with overlaid(base, home / "received", *options) as top:
            yield top


@pytest.fixture(params=DOUBTS)
def doubtful(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    with doubted(request.param, tmp_path) as directory:
        yield directory, DOUBTS[request.param]


def test_what_a_file_system_does_not_promise_is_said_everywhere(
    tmp_path: Path, doubtful: tuple[Path, str], document: Path
) -> None:
    directory, doubt = doubtful
    checked = finish(
        start(
            ["receive", "--check", "--dir", directory, "--bind", "127.0.0.1", "--port", "0"],
            environment(tmp_path, "s" * 16),
        )
    )
    assert f"ms, but {doubt}: receipts say so" in checked.out
    with receiving(tmp_path, directory=directory) as site:
        assert site.log.text.startswith(f"xfer: receipts promise nothing, and say so: {doubt}\n")
        done = site.send("--json", document)
        again = site.send(document)
    assert (done.code, done.records[0]["durable"]) == (0, False)
    assert "on disk" not in again.err.replace("NOT flushed to disk", "")
