"""What was sent comes back as it was: whole trees, resumed, beside other content, to a pipe."""

import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.mounts import mounted
from tests.support.processes import (
    MIB,
    SECRET,
    Finished,
    Site,
    assert_failed,
    environment,
    finish,
    receiving,
    run,
    start,
    unprivileged,
    wait_until,
)
from tests.support.proxy import Proxy, link

PLAINTEXT: Final = "--insecure-plaintext"
NO_RETRY: Final = ("--retry-for", "0")


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("vault")
    with receiving(home, PLAINTEXT, "--access", "read-write") as site:
        yield site
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text


@pytest.fixture
def back(tmp_path: Path) -> Path:
    directory = tmp_path / "back"
    directory.mkdir()
    return directory


def words(site: Site, to: Path | str, *arguments: str | Path) -> list[str | Path]:
    option = [PLAINTEXT] if site.plaintext else []
    return ["get", *option, *NO_RETRY, "--to", to, *arguments, site.host]


def get(site: Site, to: Path | str, *arguments: str | Path, secret: str = SECRET) -> Finished:
    return run(site.home, *words(site, to, *arguments), secret=secret)


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """All below `root`: contents or targets, modes, times (of what is no link)."""
    found: dict[bytes, tuple[object, ...]] = {}
    top = os.fsencode(root)
    for at, directories, files in os.walk(top):
        for name in [*directories, *files]:
            path = os.path.join(at, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                what: tuple[object, ...] = (os.readlink(path),)
            else:
                content = (
                    b"" if stat.S_ISDIR(status.st_mode) else Path(os.fsdecode(path)).read_bytes()
                )
                what = (content, status.st_mode, status.st_mtime_ns)
            found[path.removeprefix(top)] = what
    return {repr(name): what for name, what in found.items()}


def make_tree(root: Path) -> Path:
    """Something of everything."""
    for name in ("deep/er/est", "empty", "with files"):
        (root / name).mkdir(parents=True)
    (root / "deep/er/est/file").write_bytes(b"deep\n")
    (root / "with files/empty").touch()
    (root / "with files/large").write_bytes(random.Random(1).randbytes(3 * MIB + 1))
    (root / "with files/read-only").write_bytes(b"x")
    (root / "with files/read-only").chmod(0o400)
    (root / "with files/nobody's").write_bytes(b"not even its owner reads it")
    (root / "with files/nobody's").chmod(0)
    (root / "umlaut-ü").write_bytes(b"u")
    (root / "-n").write_bytes(b"like an option")
    Path(os.fsdecode(os.fsencode(root) + b"/not-\xff-utf8")).write_bytes(b"any bytes")
    (root / "link").symlink_to("with files/large")
    (root / "dangling").symlink_to("nowhere/\u00fc")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "to directory").symlink_to("deep")
    os.utime(root / "umlaut-ü", ns=(0, -1_500_000_000))
    os.utime(root / "with files/empty", ns=(0, 4_102_444_800_123_456_789))
    (root / "deep/er").chmod(0o311)
    (root / "deep").chmod(0o555)
    os.utime(root / "deep", ns=(0, 86_400 * 10**9))
    os.utime(root / "empty", ns=(0, 1))
    return root


def held(site: Site, name: str, content: bytes = b"what matters\n") -> Path:
    """A file that the receiver holds."""
    path = site.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Whole


@pytest.mark.parametrize("connections", ["1", "3"])
@pytest.mark.parametrize("way", ["receiver", "directory", "beside a receiver"])
def test_a_tree_comes_back_as_it_was(
    vault: Site, tmp_path: Path, back: Path, way: str, connections: str
) -> None:
    source = make_tree(tmp_path / f"{tmp_path.name}-tree")
    if way == "directory":
        shutil.copytree(source, tmp_path / "store" / source.name, symlinks=True)
        origin: list[str | Path] = [source.name, "--dir", tmp_path / "store"]
    else:
        assert vault.send(source).code == 0
        origin = [source.name, vault.host, PLAINTEXT]
        if way == "beside a receiver":
            origin = [source.name, "--dir", vault.directory]
    command = ["get", *NO_RETRY, "--json", "--to", back, "--connections", connections, *origin]
    done = run(tmp_path, *command)
    assert done.code == 0, done
    assert described(back / source.name) == described(source)
    assert os.listdir(back) == [source.name]
    summary = done.records[-1]
    assert (summary["restored"], summary["failed"], summary["exit_code"]) == (8, 0, 0)
    again = run(tmp_path, *command)
    assert (again.code, again.records[-1]["unchanged"], again.records[-1]["restored"]) == (0, 8, 0)


def test_everything_is_got_by_a_point(tmp_path: Path, back: Path) -> None:
    with receiving(tmp_path, PLAINTEXT, "--access", "read") as site:
        held(site, "a/b")
        held(site, "c")
        assert get(site, back, ".").code == 0
    assert sorted(os.listdir(back)) == ["a", "c"]
    assert (back / "a/b").read_bytes() == b"what matters\n"


def test_over_tls(tmp_path: Path, back: Path) -> None:
    with receiving(tmp_path, "--access", "read") as site:
        held(site, "deep/er/file")
        done = get(site, back, "deep/er/file")
    assert (done.code, (back / "file").read_bytes()) == (0, b"what matters\n")
    assert "1 file: 1 restored; 13 B" in done.err
    assert os.listdir(back) == ["file"]


def test_what_its_owner_may_not_read_comes_back_all_the_same(tmp_path: Path, back: Path) -> None:
    """The receiver may change the mode of its own files, as it does when they are sent again."""
    source = make_tree(tmp_path / "tree")
    with receiving(tmp_path, PLAINTEXT, "--access", "read-write", prefix=unprivileged()) as site:
        assert site.send(source).code == 0
        before = described(site.directory / "tree")
        command = words(site, back, "tree")
        done = finish(start(command, environment(tmp_path), prefix=unprivileged()))
        assert done.code == 0, done
        assert described(site.directory / "tree") == before
    assert described(back / "tree") == described(source)


def test_what_the_receiver_may_not_read_is_one_name_that_failed(tmp_path: Path, back: Path) -> None:
    prefix = unprivileged()
    if not prefix:
        pytest.skip("only root gives files away")
    with receiving(tmp_path, PLAINTEXT, "--access", "read", prefix=prefix) as site:
        foreign = held(site, "tree/foreign")
        held(site, "tree/own")
        foreign.chmod(0o600)
        os.chown(foreign, 12345, 12345)
        done = get(site, back, "tree")
    assert_failed(
        done, 7, "xfer: tree/foreign: tree/foreign cannot be read: the receiver may not read it\n"
    )
    assert os.listdir(back / "tree") == ["own"]


# Names


def test_a_name_that_is_not_there_is_6_and_one_of_two_is_7(vault: Site, back: Path) -> None:
    held(vault, "there")
    assert_failed(get(vault, back, "nowhere/x"), 6, "xfer: x: there is no nowhere/x\n")
    both = get(vault, back, "there", "nowhere/x", "--json")
    assert_failed(both, 7, "there is no nowhere/x")
    records = {record.get("file_name"): record for record in both.records}
    assert records["there"]["outcome"] == "restored"
    assert (records["x"]["outcome"], records["x"]["code"]) == ("failed", "not_found")
    assert not both.records[-1]["retryable"]
    assert os.listdir(back) == ["there"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([".xfer"], ".xfer is no name on a receiver"),
        (["../x"], "../x is no name on a receiver"),
        (["/etc/passwd"], "/etc/passwd is no name on a receiver"),
        (["a/x", "b/x"], "a/x and b/x would both arrive as x"),
        ([".", "a"], ". is everything: leave out the other names"),
        ([], "the last argument is the host"),
        (["a", "b", "--to", "-"], "one file at a time goes to standard output"),
        ([".", "--to", "-"], "one file at a time goes to standard output"),
        (["a", "--to", "-", "--json"], "standard output is either the file or --json"),
    ],
)
def test_what_cannot_be_got_is_said_before_connecting(
    vault: Site, back: Path, arguments: list[str], sentence: str
) -> None:
    done = get(vault, back, *arguments)
    assert_failed(done, 2, sentence)
    assert len(done.err.splitlines()) == 1
    assert os.listdir(back) == []


def test_the_same_name_twice_is_got_once(vault: Site, back: Path) -> None:
    held(vault, "twice")
    done = get(vault, back, "twice", "./twice/", "twice", "--json")
    assert (done.code, done.records[-1]["files"]) == (0, 1)


def test_another_secret_is_3_and_an_access_without_reading_6(tmp_path: Path, back: Path) -> None:
    with receiving(tmp_path, PLAINTEXT) as site:
        held(site, "file")
        assert_failed(get(site, back, "file", secret="xfer-key-" + 43 * "Z"), 3, "the same secret")
        assert_failed(get(site, back, "file"), 6, "--access read-write")
    assert_failed(get(site, back, "file"), 4, "")
    assert os.listdir(back) == []


# What is there already


OTHER: Final = b"other content\n"


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_other_content_is_left_unless_told_otherwise(
    vault: Site, tmp_path: Path, back: Path, kind: str
) -> None:
    name = tmp_path.name
    held(vault, name)

    def occupy() -> None:
        if kind == "file":
            (back / name).write_bytes(OTHER)
        elif kind == "link":
            (back / name).symlink_to("elsewhere")
        else:
            (back / name).mkdir()

    occupy()
    before = (back / name).lstat()
    assert_failed(get(vault, back, name), 6, "other content is there: --if-exists version keeps")
    assert (back / name).lstat() == before
    assert os.listdir(back) == [name]
    assert get(vault, back, name, "--if-exists", "version").code == 0
    assert (back / name).read_bytes() == b"what matters\n"
    assert os.listdir(back / ".xfer") == ["versions"]
    (kept,) = (back / ".xfer" / "versions" / name).iterdir()
    assert {"file": kept.is_file(), "link": kept.is_symlink(), "directory": kept.is_dir()}[kind]
    if kind != "directory":
        (back / name).unlink()
        occupy()
        done = get(vault, back, name, "--if-exists", "replace")
        assert (done.code, (back / name).read_bytes()) == (0, b"what matters\n"), done
        assert os.listdir(back / ".xfer") == ["versions"]  # the older content, and no more
        assert len(list((back / ".xfer" / "versions" / name).iterdir())) == 1


def test_the_same_content_is_unchanged_whatever_its_time(vault: Site, back: Path) -> None:
    stored = held(vault, "same")
    (back / "same").write_bytes(stored.read_bytes())
    os.utime(back / "same", ns=(5, 5))
    done = get(vault, back, "same", "--json")
    assert (done.code, done.records[0]["outcome"]) == (0, "unchanged")
    assert (back / "same").stat().st_mtime_ns == stored.stat().st_mtime_ns
    assert os.listdir(back) == ["same"]


def test_only_checksum_all_finds_what_changed_and_looks_the_same(vault: Site, back: Path) -> None:
    stored = held(vault, "sly", b"one")
    (back / "sly").write_bytes(b"two")
    os.utime(back / "sly", ns=(7, stored.stat().st_mtime_ns))
    (back / "sly").chmod(stat.S_IMODE(stored.stat().st_mode))
    assert get(vault, back, "sly").code == 0
    assert (back / "sly").read_bytes() == b"two"
    assert get(vault, back, "sly", "--checksum-all").code == 6
    assert get(vault, back, "sly", "--checksum-all", "--if-exists", "replace").code == 0
    assert (back / "sly").read_bytes() == b"one"


def test_a_file_where_a_directory_must_be_stays(vault: Site, back: Path) -> None:
    held(vault, "tree/file")
    (back / "tree").write_bytes(OTHER)
    done = get(vault, back, "tree")
    assert_failed(done, 6, "xfer: tree/file: other content is there")
    assert (back / "tree").read_bytes() == OTHER
    assert os.listdir(back) == ["tree"]


# The target


def test_a_target_that_is_no_directory_is_said_in_one_sentence(
    vault: Site, tmp_path: Path, back: Path
) -> None:
    held(vault, "file")
    (tmp_path / "a file").touch()
    for target in ("nowhere", "a file"):
        done = get(vault, tmp_path / target, "file")
        assert_failed(done, 1, f"there is no directory {tmp_path / target}: make it first")
        assert len(done.err.splitlines()) == 1
    back.chmod(0o555)
    command = words(vault, back, "file")
    done = finish(start(command, environment(tmp_path), prefix=unprivileged()))
    assert_failed(done, 1, f"cannot write to {back}: Permission denied")
    assert os.listdir(back) == []


def test_a_full_target_is_a_local_problem_and_keeps_nothing_half(
    vault: Site, tmp_path: Path, back: Path
) -> None:
    held(vault, "full/large", bytes(8 * MIB))
    held(vault, "full/small")
    with mounted(back, "-t", "tmpfs", "-o", "size=2m", "xfer-test"):
        done = get(vault, back, "full", "--json")
        assert_failed(done, 7, "full/large: no space left on this machine's disk")
        assert (back / "full/small").read_bytes() == b"what matters\n"
        assert os.listdir(back) == ["full"]
        assert os.listdir(back / "full") == ["small"]


def test_where_this_machine_may_not_write_is_not_said_of_the_receiver(
    vault: Site, tmp_path: Path, back: Path
) -> None:
    prefix = unprivileged()
    if not prefix:
        pytest.skip("only root gives directories away")
    held(vault, "guarded/below/file")
    held(vault, "guarded/file")
    (back / "guarded/below").mkdir(parents=True)
    os.chown(back / "guarded/below", 12345, 12345)
    command = words(vault, back, "guarded")
    done = finish(start(command, environment(tmp_path), prefix=prefix))
    sentence = "guarded/below/file: cannot be stored here: Permission denied\n"
    assert_failed(done, 7, sentence)
    assert "the receiver may" not in done.err
    assert (back / "guarded/file").read_bytes() == b"what matters\n"


def test_the_directory_of_a_running_receiver_is_no_target(vault: Site, tmp_path: Path) -> None:
    held(vault, "file")
    done = get(vault, vault.directory, "file")
    assert_failed(done, 1, f"is using {vault.directory}")
    assert not (vault.directory / ".xfer" / "passing").exists()


def test_what_a_receiver_keeps_in_its_directory_is_not_harmed_by_a_get(
    vault: Site, tmp_path: Path
) -> None:
    held(vault, "file")
    old = tmp_path / "old"
    with receiving(tmp_path / "home", PLAINTEXT, directory=old) as site:
        (tmp_path / "other").write_bytes(b"1")
        assert site.send(tmp_path / "other").code == 0
        (tmp_path / "other").write_bytes(b"22")
        assert site.send(tmp_path / "other").code == 0
    before = described(old / ".xfer")
    assert get(vault, old, "file").code == 0
    after = described(old / ".xfer")
    assert after.keys() >= before.keys()
    assert {name for name in after if "versions" in name} == {n for n in before if "versions" in n}
    assert (old / "file").read_bytes() == b"what matters\n"


def test_two_gets_into_one_directory_at_once_harm_nothing(
    vault: Site, tmp_path: Path, back: Path
) -> None:
    name = tmp_path.name
    content = random.Random(3).randbytes(2 * MIB)
    for number in range(8):
        held(vault, f"{name}/{number}", content + bytes([number]))
    command = words(vault, back, name)
    for _ in range(3):
        processes = [start(command, environment(tmp_path)) for _ in range(3)]
        ended = [finish(process) for process in processes]
        assert {done.code for done in ended} <= {0, 1}, ended
        assert all(done.code == 0 or "is using" in done.err for done in ended), ended
    assert get(vault, back, name).code == 0
    for number in range(8):
        assert (back / name / str(number)).read_bytes() == content + bytes([number])
    assert os.listdir(back) == [name]


# Interrupted


SIZE: Final = 24 * MIB


@pytest.fixture(scope="module")
def large(vault: Site) -> bytes:
    content = random.Random(2).randbytes(SIZE)
    held(vault, "large.bin", content)
    return content


def half_got(vault: Site, back: Path, large: bytes) -> None:
    assert [path.stat().st_size for path in (back / ".xfer" / "partials").iterdir()] != []
    assert not (back / "large.bin").exists()
    with Proxy(vault.port) as proxy:
        done = get(proxy.leading_to(vault), back, "large.bin")
    assert done.code == 0, done
    assert "large.bin: resumed at" in done.err
    assert proxy.down < SIZE * 0.9
    assert (back / "large.bin").read_bytes() == large
    assert os.listdir(back) == ["large.bin"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_getter_that_is_killed_is_resumed_by_the_same_command(
    vault: Site, back: Path, large: bytes, how: signal.Signals
) -> None:
    command = words(vault, back, "--bwlimit", "12M", "large.bin")
    process = start(command, environment(vault.home))
    partials = back / ".xfer" / "partials"
    wait_until(
        lambda: partials.is_dir() and sum(p.stat().st_size for p in partials.iterdir()) > 8 * MIB
    )
    process.send_signal(how)
    done = finish(process)
    if how == signal.SIGKILL:
        assert done.code == -how
    else:
        assert_failed(done, 130, "interrupted; the same command continues")
    half_got(vault, back, large)


def test_so_is_one_whose_receiver_was_killed(
    tmp_path: Path, vault: Site, back: Path, large: bytes
) -> None:
    with receiving(tmp_path, PLAINTEXT, "--access", "read", "--bwlimit", "12M",
                   directory=tmp_path / "second") as site:  # fmt: skip
        (site.directory / "large.bin").write_bytes(large)
        shutil.copystat(vault.directory / "large.bin", site.directory / "large.bin")
        process = start(words(site, back, "large.bin"), environment(tmp_path))
        partials = back / ".xfer" / "partials"
        wait_until(
            lambda: (
                partials.is_dir() and sum(p.stat().st_size for p in partials.iterdir()) > 8 * MIB
            )
        )
        site.process.kill()
        assert_failed(finish(process), 4, "the other side closed the connection")
    half_got(vault, back, large)


def test_a_line_that_breaks_is_tried_again_without_asking(
    vault: Site, back: Path, large: bytes
) -> None:
    with Proxy(vault.port, [link("down", cut_at=9 * MIB), link("down", cut_at=5 * MIB)]) as proxy:
        host = proxy.leading_to(vault).host
        done = run(
            vault.home, "get", PLAINTEXT, "--retry-for", "20", "--to", back, "large.bin", host
        )
    assert (done.code, proxy.connections) == (0, 3), done
    assert proxy.down < SIZE + 2 * MIB
    assert (back / "large.bin").read_bytes() == large


# To standard output


def test_a_file_goes_to_standard_output(vault: Site, back: Path, large: bytes) -> None:
    process = start(words(vault, "-", "large.bin"), environment(vault.home), cwd=back)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, large)
    assert b"restored" in err or b"verified" in err
    assert os.listdir(back) == []


def test_a_directory_does_not(vault: Site, back: Path) -> None:
    held(vault, "tree-2/file")
    (vault.directory / "empty-2").mkdir(exist_ok=True)
    assert_failed(get(vault, "-", "tree-2"), 6, "tree-2 is a directory: one file at a time")
    assert_failed(get(vault, "-", "empty-2"), 6, "empty-2: no file")
    assert_failed(get(vault, "-", "nowhere"), 6, "there is no nowhere")


def test_a_reader_that_is_gone_is_a_local_problem(vault: Site, large: bytes) -> None:
    process = start(words(vault, "-", "large.bin"), environment(vault.home))
    assert process.stdout
    assert process.stdout.read(1000) == large[:1000]
    process.stdout.close()
    assert process.stderr
    said = process.stderr.read().decode()
    assert (process.wait(20), said.count("\n")) == (1, 1), said
    assert "standard output cannot be written: Broken pipe" in said
    process.stderr.close()
    assert process.stdin
    process.stdin.close()


def test_standard_output_on_a_full_disk_is_one(vault: Site, tmp_path: Path, large: bytes) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m", "xfer-test") as small:
        with (small / "out").open("wb") as out:
            process = start(
                words(vault, "-", "large.bin"), environment(vault.home), stdout=out.fileno()
            )
            done = finish(process)
        assert_failed(done, 1, "standard output cannot be written: No space left on device")


def test_a_pipe_that_does_not_block_is_waited_for(vault: Site, large: bytes) -> None:
    """Whoever shares the pipe may have made it non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = start(words(vault, "-", "large.bin"), environment(vault.home), stdout=writing)
    os.close(writing)
    time.sleep(0.5)
    with open(reading, "rb") as out:
        got = out.read()
    done = finish(process)
    assert (done.code, got == large) == (0, True), done


# With several connections


def test_several_connections_get_all_of_it_once(vault: Site, tmp_path: Path, back: Path) -> None:
    name = tmp_path.name
    for number in range(60):
        held(vault, f"{name}/{number % 7}/{number}", bytes([number]) * 1000)
    (vault.directory / name / "link").symlink_to("0")
    with Proxy(vault.port) as proxy:
        done = get(proxy.leading_to(vault), back, "--connections", "3", "--json", name)
    assert done.code == 0, done
    assert proxy.connections == 4
    told = [record["file_name"] for record in done.records[:-1]]
    assert len(told) == len(set(told)) == 60 + 8 + 1
    assert described(back / name) == described(vault.directory / name)
    assert os.listdir(back) == [name]


def test_several_threads_read_one_directory_without_disturbing_each_other(
    tmp_path: Path, back: Path
) -> None:
    store = tmp_path / "store"
    for number in range(1500):
        path = store / f"tree/{number % 50}/{number % 3}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    words = ("get", "--dir", store, "--to", back, "--connections", "8", "--quiet", "tree")
    done = run(tmp_path, *words)
    assert (done.code, done.err) == (0, "")
    assert described(back / "tree") == described(store / "tree")
