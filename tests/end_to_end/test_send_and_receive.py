"""The main job, through real processes: what was sent is what is stored."""

import os
import random
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import MIB, Site, environment, finish, receiving, start

SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def picture(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything at and below `root`: kinds, modes, times, contents, link targets."""
    top = os.fsencode(root)
    paths = [top]
    for parent, directories, files in os.walk(top):
        paths += [os.path.join(parent, name) for name in directories + files]
    return {os.path.relpath(path, top): described(path) for path in paths}


def described(path: bytes) -> tuple[object, ...]:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return ("link", os.readlink(path))
    content = b""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = file.read()
    return (oct(status.st_mode), status.st_mtime_ns, content)


def plant(root: Path) -> None:
    """A tree with everything in it that is easily lost on the way."""
    (root / "empty" / "deeper").mkdir(parents=True)
    (root / "a b").mkdir(mode=0o750)
    for mode in (0o400, 0o644, 0o755):
        file = root / "a b" / f"{mode:o} ünï"
        file.write_bytes(noise(mode))
        file.chmod(mode)
        os.utime(file, ns=(0, 1_234_567_890_123_456_789 + mode))
    (root / "before 1970").write_bytes(b"old")
    os.utime(root / "before 1970", ns=(0, -1_500_000_000))
    (root / os.fsdecode(b"not \xff utf-8 \xc3")).write_bytes(b"any name")
    os.symlink(b"not \xff utf-8 \xc3", os.fsencode(root) + b"/link")
    os.symlink("/nowhere/at all", root / "dangling")
    os.symlink("..", root / "a b" / "up")
    os.utime(root / "empty", ns=(0, 987_654_321_000_000_001))


def test_files_of_every_size_arrive_as_they_are(nas: Site, tmp_path: Path) -> None:
    files = [tmp_path / f"{tmp_path.name}-{size}" for size in SIZES]
    for file, size in zip(files, SIZES, strict=True):
        file.write_bytes(noise(size))
    sent = nas.send(*files)
    assert (sent.code, sent.out) == (0, "")
    assert [picture(nas.stored(file)) for file in files] == [picture(file) for file in files]


def test_a_tree_arrives_with_names_links_modes_and_times(nas: Site, tmp_path: Path) -> None:
    plant(tmp_path)
    assert nas.send(tmp_path).code == 0
    assert picture(nas.stored(tmp_path)) == picture(tmp_path)


def test_a_time_that_no_message_can_hold_keeps_nothing_from_arriving(
    nas: Site, tmp_path: Path
) -> None:
    tree = tmp_path / tmp_path.name
    (tree / "d").mkdir(parents=True)
    for name in ("a", "d/b", "z"):
        (tree / name).write_bytes(name.encode())
    for path in (tree / "d/b", tree / "d"):
        os.utime(path, ns=(10**19, 10**19))
    for outcome in ("stored", "unchanged"):
        done = nas.send("--json", tree)
        assert (done.code, done.records[0]["outcome"]) == (0, outcome), done
    assert nas.stored(tree.name).joinpath("d/b").read_bytes() == b"d/b"


@pytest.mark.parametrize(
    ("options", "bind"),
    [([], "::1"), (["--insecure-plaintext"], "127.0.0.1")],
)
def test_a_tree_arrives_over_ipv6_and_plaintext(
    tmp_path: Path, options: list[str], bind: str
) -> None:
    (tmp_path / "tree").mkdir()
    plant(tmp_path / "tree")
    with receiving(tmp_path, *options, bind=bind) as site:
        sent = site.send(tmp_path / "tree")
        assert sent.code == 0
        assert site.host in sent.err
        assert picture(site.directory / "tree") == picture(tmp_path / "tree")


@pytest.mark.parametrize("checksum", ["md5", "blake3"])
def test_either_checksum_verifies_a_file_in_many_parts(
    nas: Site, tmp_path: Path, checksum: str
) -> None:
    file = tmp_path / tmp_path.name
    file.write_bytes(noise(2 * MIB + 5))
    sent = nas.send("--checksum", checksum, "--json", file)
    assert (sent.code, checksum in sent.records[0]) == (0, True)
    assert picture(nas.stored(file)) == picture(file)


@pytest.mark.parametrize("size", [0, MIB])
def test_standard_input_is_stored_under_its_name(nas: Site, tmp_path: Path, size: int) -> None:
    name = f"{tmp_path.name}/deep/stream"
    assert nas.send("-", "--name", name, stdin=noise(size)).code == 0
    assert (nas.directory / name).read_bytes() == noise(size)


def test_standard_input_may_come_slowly_beside_files(
    nas: Site, tmp_path: Path, document: Path
) -> None:
    process = nas.start_send(document, "-", "--name", tmp_path.name)
    assert process.stdin
    for _ in range(5):
        process.stdin.write(noise(MIB // 2 + 3))
        process.stdin.flush()
        time.sleep(0.03)
    assert finish(process, b"the end").code == 0
    assert nas.stored(tmp_path).read_bytes() == 5 * noise(MIB // 2 + 3) + b"the end"
    assert picture(nas.stored(document)) == picture(document)


def test_standard_input_that_is_a_file_is_sent_to_its_end(nas: Site, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(noise(MIB))
    with (tmp_path / "source").open("rb") as source:
        sent = finish(nas.start_send("-", "--name", tmp_path.name, stdin=source.fileno()))
    assert sent.code == 0
    assert nas.stored(tmp_path).read_bytes() == noise(MIB)


def test_a_second_run_finds_everything_unchanged(nas: Site, tmp_path: Path) -> None:
    plant(tmp_path)
    assert nas.send(tmp_path).code == 0
    again = nas.send("--json", tmp_path)
    assert again.code == 0
    assert {record["outcome"] for record in again.records[:-1]} == {"unchanged"}
    assert picture(nas.stored(tmp_path)) == picture(tmp_path)


def test_changed_content_is_stored_and_every_older_one_kept(nas: Site, document: Path) -> None:
    for content in (b"first", b"second", b"third"):
        document.write_bytes(content)
        sent = nas.send("--json", document)
        assert sent.code == 0
    assert sent.records[0]["outcome"] == "versioned"
    assert nas.stored(document).read_bytes() == b"third"
    assert nas.versions(document) == [b"first", b"second"]


def test_a_receiver_that_must_keep_content_refuses_other_content(
    tmp_path: Path, document: Path
) -> None:
    with receiving(tmp_path, "--if-exists", "refuse") as site:
        assert site.send(document).code == 0
        assert site.send(document).code == 0, "the same content is no reason to refuse"
        document.write_bytes(b"something else")
        refused = site.send("--json", document)
        assert (refused.code, refused.records[0]["code"]) == (6, "exists")
        assert refused.records[0]["retryable"] is False
        assert "the receiver has other content under this name" in refused.err
        assert site.stored(document).read_bytes() == b"what matters\n"
        site.log.wait_for("refused, the receiver has other content")


def test_a_receiver_that_replaces_keeps_no_older_content(tmp_path: Path, document: Path) -> None:
    with receiving(tmp_path, "--if-exists", "replace") as site:
        assert site.send(document).code == 0
        document.write_bytes(b"newer")
        sent = site.send("--json", document)
        assert (sent.code, sent.records[0]["outcome"]) == (0, "stored")
        assert site.stored(document).read_bytes() == b"newer"
        assert site.versions(document) == []


def test_several_senders_of_one_name_lose_no_content(nas: Site, tmp_path: Path) -> None:
    contents = [bytes([number]) * (MIB + number) for number in range(3)]
    files = [tmp_path / str(number) / tmp_path.name for number in range(3)]
    for file, content in zip(files, contents, strict=True):
        file.parent.mkdir()
        file.write_bytes(content)
    with ThreadPoolExecutor(3) as pool:
        sent = pool.map(lambda file: nas.send("--retry-for", "20", file), files)
        assert {one.code for one in sent} == {0}
    assert sorted([nas.stored(tmp_path).read_bytes(), *nas.versions(tmp_path)]) == contents


def test_relative_paths_are_stored_under_their_last_component(nas: Site, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / f"{tmp_path.name}.txt").write_bytes(b"here")
    command = nas.command(f"../{tmp_path.name}.txt", ".")
    sent = finish(start(command, environment(nas.home), cwd=tmp_path / "sub"))
    assert sent.code == 0
    assert nas.stored(f"{tmp_path.name}.txt").read_bytes() == b"here"
    assert nas.stored("sub").is_dir()
