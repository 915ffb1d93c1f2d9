"""What a directory on this machine promises on top of the contract of every store.

Power cuts are judged by the order of system calls (strace); kills, failing
flushes and file systems without hard links are made by the kernel, through
strace's fault injection.
"""

import functools
import itertools
import json
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.stores import commit, new_file, put, words
from xfer import names
from xfer.errors import Code, LocalError, Refused
from xfer.storage.contract import IfExists, Metadata, NewDirectory, NewSymlink, StoreWriter
from xfer.storage.local.layout import Leftovers
from xfer.storage.local.store import LocalStore

MTIME = 1_000_000_000_123_456_789
"""Nanoseconds; in 2001."""
KEPT = Metadata(0o755, MTIME)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "dir"
    directory.mkdir()
    return directory


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    with LocalStore(str(root)) as opened:
        yield opened


@pytest.fixture
def writer(store: LocalStore) -> Iterator[StoreWriter]:
    opened = store.open_writer("default")
    yield opened
    opened.close()


def put_into(root: Path, if_exists: IfExists, name: str, content: bytes) -> str:
    """Commit one file to a store that is opened for it."""
    with LocalStore(str(root), if_exists) as store:
        writer = store.open_writer("default")
        try:
            return put(writer, name, content)
        finally:
            writer.close()


def versions(root: Path, name: str) -> list[Path]:
    return sorted((root / ".xfer/versions" / name).glob("*"))


def partials(root: Path) -> list[str]:
    return os.listdir(root / ".xfer/partials")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def read_at(root: Path, name: str) -> bytes:
    """The content of a name that is too long for one path."""
    *parents, last = names.to_bytes(name).split(b"/")
    directory = os.open(root, os.O_RDONLY)
    for component in parents:
        below = os.open(component, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    descriptor = os.open(last, os.O_RDONLY, dir_fd=directory)
    os.close(directory)
    with open(descriptor, "rb") as opened:
        return opened.read()


# --- modes and times


@pytest.mark.parametrize(
    ("sent", "kept"), [(0o600, 0o600), (0o444, 0o444), (0, 0), (0o7777, 0o777), (0o4755, 0o755)]
)
def test_permission_bits_and_time_are_kept_but_no_set_id_or_sticky(
    root: Path, writer: StoreWriter, sent: int, kept: int
) -> None:
    put(writer, "f", b"data", Metadata(sent, MTIME))
    commit(writer, [NewDirectory("d", Metadata(sent, MTIME))])
    for name in ("f", "d"):
        assert mode(root / name) == kept
        assert (root / name).stat().st_mtime_ns == MTIME


@pytest.mark.parametrize("mtime_ns", [0, -1, 2**31 * 10**9, 2**63, -(2**70), 2**100])
def test_no_time_is_a_reason_to_lose_the_bytes(
    root: Path, writer: StoreWriter, mtime_ns: int
) -> None:
    assert put(writer, "f", b"data", Metadata(None, mtime_ns)) == "stored"
    assert (root / "f").read_bytes() == b"data"


def test_a_directory_keeps_its_time_though_its_files_came_in_the_same_batch(
    root: Path, writer: StoreWriter
) -> None:
    file = new_file(writer, "d/f", b"data")
    commit(writer, [file, NewDirectory("d", Metadata(0o700, MTIME))])
    assert (root / "d").stat().st_mtime_ns == MTIME
    assert mode(root / "d") == 0o700


def test_the_same_content_is_left_where_it_is_and_takes_the_new_time(
    root: Path, writer: StoreWriter
) -> None:
    put(writer, "f", b"data", Metadata(0o600, MTIME))
    inode = (root / "f").stat().st_ino
    assert put(writer, "f", b"data", Metadata(0o640, MTIME + 1)) == "unchanged"
    status = (root / "f").stat()
    assert (status.st_ino, status.st_mtime_ns, mode(root / "f")) == (inode, MTIME + 1, 0o640)
    assert versions(root, "f") == []


def test_the_same_content_without_mode_and_time_leaves_those_it_had(
    root: Path, writer: StoreWriter
) -> None:
    put(writer, "f", b"data", Metadata(0o600, MTIME))
    assert put(writer, "f", b"data") == "unchanged"
    assert ((root / "f").stat().st_mtime_ns, mode(root / "f")) == (MTIME, 0o600)


# --- older content


@pytest.mark.parametrize("name", ["f", "docs/a.txt"])
def test_older_content_is_kept_with_its_time_under_the_utc_time(
    root: Path, writer: StoreWriter, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    put(writer, name, b"old", Metadata(0o640, MTIME))
    assert put(writer, name, b"new") == "versioned"
    (kept,) = versions(root, name)
    when = datetime.strptime(kept.name, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60
    assert (kept.read_bytes(), kept.stat().st_mtime_ns, mode(kept)) == (b"old", MTIME, 0o640)


def test_content_that_another_program_put_there_is_kept_too(
    root: Path, writer: StoreWriter
) -> None:
    (root / "f").write_bytes(b"by hand")
    assert put(writer, "f", b"sent") == "versioned"
    assert [path.read_bytes() for path in versions(root, "f")] == [b"by hand"]


def test_a_link_in_place_of_the_name_is_kept_as_a_link_and_its_target_untouched(
    tmp_path: Path, root: Path, writer: StoreWriter
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (root / "f").symlink_to(outside)
    assert put(writer, "f", b"mine") == "versioned"
    assert not (root / "f").is_symlink()
    assert [os.readlink(path) for path in versions(root, "f")] == [str(outside)]
    assert words(commit(writer, [NewSymlink("f", str(outside))])) == ["versioned"]
    assert os.readlink(root / "f") == str(outside)
    assert outside.read_bytes() == b"mine"


def test_refuse_keeps_the_old_and_takes_what_is_new_or_the_same(root: Path) -> None:
    told = [put_into(root, IfExists.REFUSE, "f", content) for content in (b"1", b"2", b"1")]
    assert told == ["stored", Code.EXISTS, "unchanged"]
    assert (root / "f").read_bytes() == b"1"
    assert (partials(root), versions(root, "f")) == ([], [])


def test_replace_keeps_no_version(root: Path) -> None:
    told = [put_into(root, IfExists.REPLACE, "f", content) for content in (b"1", b"2", b"2")]
    assert told == ["stored", "stored", "unchanged"]
    assert (root / "f").read_bytes() == b"2"
    assert versions(root, "f") == []


def test_under_refuse_one_of_many_senders_at_once_wins(root: Path) -> None:
    with LocalStore(str(root), IfExists.REFUSE) as store:
        writers = [store.open_writer("default") for _ in range(8)]
        with ThreadPoolExecutor(8) as threads:
            told = list(threads.map(lambda n: put(writers[n], "f", b"%d" % n), range(8)))
        for writer in writers:
            writer.close()
    assert sorted(told) == [Code.EXISTS] * 7 + ["stored"]
    assert (root / "f").read_bytes() == b"%d" % told.index("stored")


# --- what is in the way


@pytest.mark.parametrize("name", ["link/f", "d/link/f", "link/d/f", "absolute/f"])
def test_a_link_in_place_of_a_parent_is_never_followed(
    tmp_path: Path, root: Path, writer: StoreWriter, name: str
) -> None:
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (root / "d").mkdir()
    (root / "link").symlink_to("../outside")
    (root / "d/link").symlink_to("../../outside")
    (root / "absolute").symlink_to(outside)
    assert put(writer, name, b"data") == Code.EXISTS
    assert words(commit(writer, [NewSymlink(name, "x")])) == [Code.EXISTS]
    assert words(commit(writer, [NewDirectory(name, Metadata())])) == [Code.EXISTS]
    assert list(outside.rglob("*")) == [outside / "d"]
    assert partials(root) == []


def test_a_directory_does_not_land_on_what_a_link_points_to(
    tmp_path: Path, root: Path, writer: StoreWriter
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (root / "d").symlink_to(outside)
    assert words(commit(writer, [NewDirectory("d", Metadata(0o777, MTIME))])) == [Code.EXISTS]
    assert mode(outside) == 0o750


def test_a_directory_is_refused_where_a_file_is(root: Path, writer: StoreWriter) -> None:
    put(writer, "f", b"data")
    assert words(commit(writer, [NewDirectory("f", Metadata())])) == [Code.EXISTS]
    assert (root / "f").read_bytes() == b"data"


@pytest.mark.timeout(10)
def test_a_fifo_in_place_of_the_name_keeps_nobody_waiting(root: Path, writer: StoreWriter) -> None:
    os.mkfifo(root / "f")
    assert put(writer, "f", b"data") == "versioned"
    assert (root / "f").read_bytes() == b"data"


# --- the directory and what is the receiver's own in it


def test_one_receiver_at_a_time_uses_a_directory(root: Path) -> None:
    with LocalStore(str(root)), pytest.raises(LocalError, match="another receiver"):
        LocalStore(str(root))
    LocalStore(str(root)).close()


def test_a_directory_that_is_missing_or_a_file_is_a_local_error(root: Path) -> None:
    (root / "file").touch()
    for path in (root / "missing", root / "file"):
        with pytest.raises(LocalError):
            LocalStore(str(path))
    assert os.listdir(root) == ["file"]


def test_the_state_directory_is_private_whatever_it_was(root: Path) -> None:
    (root / ".xfer/versions").mkdir(parents=True, mode=0o755)
    (root / ".xfer").chmod(0o777)
    LocalStore(str(root)).close()
    assert [mode(root / ".xfer" / n) for n in (".", "partials", "versions")] == [0o700] * 3


@pytest.mark.parametrize("planted", [".xfer", ".xfer/partials", ".xfer/versions", ".xfer/lock"])
@pytest.mark.parametrize("to_directory", [True, False])
def test_a_planted_link_in_place_of_state_is_refused(
    tmp_path: Path, root: Path, planted: str, to_directory: bool
) -> None:
    outside = tmp_path / "outside"
    if to_directory:
        outside.mkdir(mode=0o755)
    (root / planted).parent.mkdir(exist_ok=True)
    (root / planted).symlink_to(outside)
    with pytest.raises(LocalError):
        LocalStore(str(root))
    assert outside.exists() == to_directory
    assert not to_directory or (os.listdir(outside), mode(outside)) == ([], 0o755)


def test_a_refused_directory_leaks_no_descriptor(root: Path) -> None:
    (root / ".xfer").mkdir()
    (root / ".xfer/versions").touch()
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises(LocalError):
            LocalStore(str(root))
    assert open_descriptors() == before


def test_what_a_killed_receiver_left_is_removed_and_counted(root: Path) -> None:
    LocalStore(str(root)).close()
    for name in ("1", "2"):
        (root / ".xfer/partials" / name).write_bytes(b"half")
    (root / ".xfer/partials/3").symlink_to(root)
    with LocalStore(str(root)) as store:
        assert store.leftovers == Leftovers(removed=3, resumable=0)
    assert partials(root) == []
    with LocalStore(str(root)) as store:
        assert store.leftovers == Leftovers(removed=0, resumable=0)


def test_a_leftover_that_cannot_be_removed_is_a_local_error_and_frees_the_lock(root: Path) -> None:
    (root / ".xfer/partials/d").mkdir(parents=True)
    before = open_descriptors()
    with pytest.raises(LocalError):
        LocalStore(str(root))
    assert open_descriptors() == before


# --- names


@pytest.mark.parametrize(
    "name",
    [
        "caf\udce9/\udcff\udcfe",
        "n" * 255,
        "é" * 127 + "x",
        "/".join(["n" * 255] * 16),
        "-rf",
        "a b/*?\"'\\",
        "d/.xfer/f",
        ".xfer2",
        ".XFER/f",
        "...",
        "20240101T000000.000000Z",
    ],
)
def test_any_safe_name_holds_content_and_versions(
    root: Path, writer: StoreWriter, name: str
) -> None:
    assert names.check(name) == name
    assert [put(writer, name, content) for content in (b"1", b"2")] == ["stored", "versioned"]
    assert read_at(root, name) == b"2"
    first = os.listdir(os.fsencode(root / ".xfer/versions"))
    assert first == [names.to_bytes(name).split(b"/")[0]]


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many open files as the command line asks for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8192 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, hard))
    elif soft < 8192:
        pytest.skip("this process may not have 8,192 files open")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def deep_root(root: Path) -> Iterator[Path]:
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True, timeout=20)


def test_a_name_of_1500_levels_is_stored_and_versioned(
    many_descriptors: None, deep_root: Path
) -> None:
    name = "d/" * 1499 + "f"
    before = open_descriptors()
    told = [put_into(deep_root, IfExists.VERSION, name, content) for content in (b"1", b"2", b"2")]
    assert told == ["stored", "versioned", "unchanged"]
    assert read_at(deep_root, name) == b"2"
    assert open_descriptors() == before


# --- descriptors


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_commits_and_failures_leak_no_descriptor(root: Path, store: LocalStore) -> None:
    (root / "taken").mkdir()
    (root / "link").symlink_to("taken")
    before = open_descriptors()
    for turn in range(20):
        writer = store.open_writer("default")
        content = b"%d" % turn
        put(writer, "a/b/f", content)
        files = [new_file(writer, n, content) for n in ("a/b/f", "taken", "link/f", "a/b/f/g")]
        links = [NewSymlink("a/l", f"{turn}"), NewSymlink("link/l", "x")]
        told = words(commit(writer, [*files, *links, NewDirectory("a", KEPT)]))
        assert (told[0], told.count(Code.EXISTS)) == ("unchanged", 4)
        new_file(writer, "g", content).partial.discard()
        writer.close()
    assert open_descriptors() == before
    assert partials(root) == []


def test_too_many_open_files_is_busy_and_leaves_nothing(
    root: Path, store: LocalStore, writer: StoreWriter
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    file = new_file(writer, "a/b/c", b"data")
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        (result,) = commit(writer, [file])
        last = writer.create_partial()  # has the descriptor of the one that was refused
        for one_more in (writer.create_partial, functools.partial(store.open_writer, "default")):
            with pytest.raises(Refused) as caught:
                one_more()
            assert caught.value.code == Code.BUSY
        last.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(result, Refused)
    assert (result.code, result.retryable) == (Code.BUSY, True)
    assert partials(root) == []


# --- full disks, other disks


def test_too_large_for_the_file_system_leaves_nothing(root: Path, writer: StoreWriter) -> None:
    partial = writer.create_partial()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Refused) as caught:
            partial.write(b"x" * 100_001)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    partial.discard()
    assert (caught.value.code, caught.value.retryable) == (Code.TOO_LARGE, False)
    assert (os.listdir(root), partials(root)) == ([".xfer"], [])


@pytest.fixture
def mount(root: Path) -> Iterator[Callable[[str, str], Path]]:
    mounted: list[Path] = []

    def mount_memory(where: str, options: str) -> Path:
        path = root / where
        path.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "xfer-test", str(path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
        if done.returncode:
            pytest.skip(f"no mounting here: {done.stderr.strip()}")
        mounted.append(path)
        return path

    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    yield mount_memory
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=20)


def test_a_full_disk_is_no_space_and_leaves_nothing(mount: Callable[[str, str], Path]) -> None:
    disk = mount("disk", "size=1m")
    with LocalStore(str(disk)) as store:
        writer = store.open_writer("default")
        put(writer, "f", b"old")
        free = os.statvfs(disk).f_bfree
        partial = writer.create_partial()
        with pytest.raises(Refused) as caught:
            partial.write(b"x" * 2_000_000)
        partial.discard()
        assert (caught.value.code, caught.value.retryable) == (Code.NO_SPACE, False)
        assert os.statvfs(disk).f_bfree == free
        assert put(writer, "f", b"new") == "versioned"
        writer.close()


def test_a_disk_without_inodes_is_no_space_and_keeps_the_old(
    mount: Callable[[str, str], Path],
) -> None:
    disk = mount("disk", "nr_inodes=16")
    with LocalStore(str(disk)) as store:
        writer = store.open_writer("default")
        filler = [disk / "filler1", disk / "filler2"]
        for path in filler:
            path.touch()
        stored = list(itertools.takewhile(lambda n: _fits(writer, f"{n}"), range(99)))
        assert stored
        filler[0].unlink()
        assert put(writer, "0", b"new") == Code.NO_SPACE  # no room for DIR/.xfer/versions/0
        assert {(disk / f"{n}").read_bytes() for n in stored} == {b"old"}
        assert partials(disk) == []
        writer.close()


def _fits(writer: StoreWriter, name: str) -> bool:
    try:
        told = put(writer, name, b"old")
    except Refused as error:
        told = error.code
    assert told in ("stored", Code.NO_SPACE)
    return told == "stored"


def test_another_file_system_below_the_directory_is_refused(
    mount: Callable[[str, str], Path], root: Path, writer: StoreWriter
) -> None:
    other = mount("other", "size=1m")
    assert put(writer, "other/f", b"data") == Code.STORAGE
    assert (os.listdir(other), partials(root)) == ([], [])


# --- in a process of its own

COMMIT = """
import json, os, sys
from tests.support.stores import commit
from xfer.errors import Refused, XferError
from xfer.storage.contract import Metadata, NewDirectory, NewFile, NewSymlink
from xfer.storage.local.store import LocalStore

def item(name, content):
    if not isinstance(content, str):
        return NewSymlink(name, content[0]) if content else NewDirectory(name, Metadata())
    partial = writer.create_partial()
    try:
        partial.write(content.encode())
        partial.finish(Metadata(None, 10**18))
    except Refused:
        partial.discard()
        raise
    return NewFile(name, partial)

try:
    with LocalStore(sys.argv[1]) as store:
        writer = store.open_writer("default")
        results = commit(writer, [item(*one) for one in json.loads(sys.argv[2])])
        told = [getattr(result, "code", result) for result in results]
        os.write(1, json.dumps(told).encode())
        writer.close()
except XferError as error:
    os.write(1, json.dumps([error.code]).encode())
"""

Contents = dict[str, str | list[str]]
"""Text of a file, [target] of a symbolic link, [] of a directory; by name."""


def commit_apart(
    root: Path, contents: Contents, prefix: Sequence[str] = (), umask: int = -1
) -> list[str]:
    """Commit one batch in another process; [] if it was killed before it could tell."""
    arguments = [str(root), json.dumps(list(contents.items()))]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", COMMIT, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        umask=umask,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode in (0, -9), done.stderr
    told: list[str] = json.loads(done.stdout or "[]")
    return told


def tool(name: str, *arguments: str) -> list[str]:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return [name, *arguments]


def without(*capabilities: str) -> list[str]:
    """A prefix that takes root's powers away."""
    if os.geteuid() != 0:
        return []
    bounding = ",".join(f"-{capability}" for capability in capabilities)
    return tool("setpriv", f"--bounding-set={bounding}", "--")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_without_a_mode_the_umask_decides(root: Path, umask: int) -> None:
    assert commit_apart(root, {"d/f": "data"}, umask=umask) == ["stored"]
    assert (mode(root / "d/f"), mode(root / "d")) == (0o666 & ~umask, 0o777 & ~umask)
    assert mode(root / ".xfer") == 0o700


def test_an_unwritable_directory_is_a_local_error(root: Path) -> None:
    prefix = without("dac_override", "dac_read_search")
    root.chmod(0o555)
    assert commit_apart(root, {"f": "data"}, prefix) == [Code.LOCAL]
    root.chmod(0o000)
    assert commit_apart(root, {"f": "data"}, prefix) == [Code.LOCAL]
    root.chmod(0o700)
    assert os.listdir(root) == []


def test_a_parent_whose_mode_forbids_it_is_written_and_keeps_its_mode(root: Path) -> None:
    prefix = without("dac_override", "dac_read_search")
    (root / "locked").mkdir(mode=0o555)
    contents: Contents = {"locked/f": "1", "f": "2", "locked/d/f": "3"}
    assert commit_apart(root, contents, prefix) == ["stored"] * 3
    assert (sorted(os.listdir(root / "locked")), partials(root)) == (["d", "f"], [])
    assert mode(root / "locked") == 0o555


def test_a_parent_that_may_not_be_written_harms_no_other_item(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a directory that is somebody else's")
    prefix = without("dac_override", "dac_read_search", "fowner")
    (root / "locked").mkdir(mode=0o755)
    os.chown(root / "locked", 1234, 1234)
    contents: Contents = {"locked/f": "1", "f": "2", "locked/d/f": "3"}
    assert commit_apart(root, contents, prefix) == [Code.STORAGE, "stored", Code.STORAGE]
    assert (os.listdir(root / "locked"), partials(root)) == ([], [])


def test_a_file_that_may_not_be_read_is_versioned_unseen(root: Path) -> None:
    prefix = without("dac_override", "dac_read_search")
    (root / "f").touch(mode=0o000)
    assert commit_apart(root, {"f": ""}, prefix) == ["versioned"]
    assert [mode(path) for path in versions(root, "f")] == [0]


def test_a_file_that_may_not_be_linked_is_copied_to_versions(root: Path) -> None:
    """fs.protected_hardlinks: not to a file that one neither owns nor may write."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file that is somebody else's")
    setting = Path("/proc/sys/fs/protected_hardlinks")
    if not setting.exists() or setting.read_text().strip() != "1":
        pytest.skip("fs.protected_hardlinks is off")
    for name in ("f", "same"):
        (root / name).write_bytes(b"theirs")
        (root / name).chmod(0o644)
        os.utime(root / name, ns=(MTIME, MTIME))
        os.chown(root / name, 1234, 1234)
    prefix = without("dac_override", "dac_read_search", "fowner")
    told = commit_apart(root, {"f": "sent", "same": "theirs"}, prefix)
    assert told == ["versioned", "unchanged"]
    (kept,) = versions(root, "f")
    assert (kept.read_bytes(), kept.stat().st_mtime_ns, mode(kept)) == (b"theirs", MTIME, 0o644)
    assert kept.stat().st_uid == os.geteuid()


# --- under strace: the order of system calls, kills and faults

NAMING = ["linkat", "rename", "renameat", "renameat2", "symlinkat", "mkdirat", "unlinkat"]
FLUSHING = ["fsync", "fdatasync", "syncfs"]


def strace(trace: Path, *inject: str) -> list[str]:
    calls = ",".join(f"?{call}" for call in ["write", "pwrite64", "sendfile", *NAMING, *FLUSHING])
    faults = [option for fault in inject for option in ("-e", f"inject={fault}")]
    prefix = tool("strace", "-f", "-y", "-o", str(trace), "-e", f"trace={calls}", *faults)
    if trouble := _trouble_with_strace():
        pytest.skip(f"strace cannot trace here: {trouble}")
    return prefix


@functools.cache
def _trouble_with_strace() -> str:
    probe = ["strace", "-f", "-y", "-o", os.devnull, "-e", "inject=?link:error=EPERM", "true"]
    done = subprocess.run(probe, check=False, capture_output=True, text=True, timeout=20)
    return done.stderr.strip() if done.returncode else ""


def events(root: Path, trace: Path) -> list[str]:
    """What matters for a power cut, in order, without repetitions in a row."""
    top = re.escape(str(root))
    state = rf"\d+<{top}/\.xfer"
    kinds = {
        rf"pwrite64\({state}/partials/": "write",
        rf"(fsync|fdatasync)\({state}/partials/": "flush data",
        rf"(fsync|fdatasync)\({state}/versions": "flush version",
        rf"syncfs\(\d+<{top}>": "flush all",
        rf"(fsync|fdatasync)\(\d+<{top}(/(?!\.xfer)[^>]*)?>": "flush name",
        rf"linkat\({state}/partials>.*, \d+<{top}.* = 0": "install",
        rf"symlinkat\(.*, \d+<{top}>": "install",
        rf"renameat2?\({state}/partials>.*, \d+<{top}": "install",
        rf"linkat\(\d+<{top}.*, {state}/versions": "keep version",
        r"write\(1<": "receipt",
    }
    lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    found = [next((k for p, k in kinds.items() if re.match(p, line)), "") for line in lines]
    return [kind for kind, _ in itertools.groupby(filter(None, found))]


MANY: Contents = {f"many{n}": "data" for n in range(9)}


@pytest.mark.parametrize(
    ("contents", "order"),
    [
        pytest.param(
            {"new": "data"},
            ["write", "flush data", "install", "flush name", "receipt"],
            id="new",
        ),
        pytest.param(
            {"p/q/new": "data"},
            ["write", "flush data", "install", "flush name", "receipt"],
            id="new parents",
        ),
        pytest.param(
            MANY, ["write", "flush all", "install", "flush name", "receipt"], id="many at once"
        ),
        pytest.param(
            {"old": "data"},
            [
                "write",
                "flush data",
                "keep version",
                "flush version",
                "install",
                "flush name",
                "receipt",
            ],
            id="versioned",
        ),
        pytest.param({"link": ["new"]}, ["install", "flush name", "receipt"], id="symlink"),
        pytest.param({"d": []}, ["flush name", "receipt"], id="directory"),
    ],
)
def test_nothing_is_named_before_its_bytes_nor_told_before_its_name(
    tmp_path: Path, root: Path, contents: Contents, order: list[str]
) -> None:
    put_into(root, IfExists.VERSION, "old", b"older")
    trace = tmp_path / "trace"
    commit_apart(root, contents, strace(trace))
    at_start = "flush all"  # whatever a receiver that was killed may have left
    assert events(root, trace) == [at_start, *order]


def test_every_new_directory_on_the_way_is_flushed_before_the_receipt(
    tmp_path: Path, root: Path
) -> None:
    LocalStore(str(root)).close()
    trace = tmp_path / "trace"
    commit_apart(root, {"p/q/r": "data"}, strace(trace))
    _, _, after_install = trace.read_text().partition(" linkat(")
    assert {root, root / "p", root / "p/q"} <= flushed_before_receipt(after_install)


def flushed_before_receipt(trace: str) -> set[Path]:
    before, receipt, _ = trace.partition("write(1<")
    assert receipt
    return {Path(path) for path in re.findall(r"sync\(\d+<(.*)>\)", before)}


def test_a_receipt_covers_the_parents_that_a_killed_receiver_made(
    tmp_path: Path, root: Path
) -> None:
    LocalStore(str(root)).close()
    kill = strace(tmp_path / "killed", "?fsync:signal=KILL:when=2")
    assert commit_apart(root, {"p/f": "data"}, kill) == []
    assert (root / "p/f").exists()
    trace = tmp_path / "trace"
    assert commit_apart(root, {"p/f": "data"}, strace(trace)) == ["unchanged"]
    before, receipt, _ = trace.read_text().partition("write(1<")
    assert receipt
    assert re.search(rf"syncfs\(\d+<{re.escape(str(root))}>\) += 0", before)


def test_what_was_there_already_is_on_disk_before_it_is_called_unchanged(
    tmp_path: Path, root: Path
) -> None:
    put_into(root, IfExists.VERSION, "f", b"data")
    trace = tmp_path / "trace"
    assert commit_apart(root, {"f": "data"}, strace(trace)) == ["unchanged"]
    assert {root / "f", root} <= flushed_before_receipt(trace.read_text())


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "EMLINK"])
def test_without_hard_links_files_are_moved_and_versions_copied(
    tmp_path: Path, root: Path, error: str
) -> None:
    put_into(root, IfExists.VERSION, "old", b"older")
    (root / "old").chmod(0o640)
    os.utime(root / "old", ns=(MTIME, MTIME))
    (root / "link").symlink_to("somewhere")
    trace = tmp_path / "trace"
    contents: Contents = {"old": "data", "d/new": "data", "link": ["old"], "newlink": ["old"]}
    told = commit_apart(root, contents, strace(trace, f"?linkat:error={error}"))
    assert told == ["versioned", "stored", "versioned", "stored"]
    assert ((root / "old").read_text(), (root / "d/new").read_text()) == ("data", "data")
    assert os.readlink(root / "newlink") == "old"
    (kept,) = versions(root, "old")
    assert (kept.read_bytes(), mode(kept), kept.stat().st_mtime_ns) == (b"older", 0o640, MTIME)
    assert [os.readlink(path) for path in versions(root, "link")] == ["somewhere"]
    assert partials(root) == []
    assert re.search(rf"fsync\(\d+<{re.escape(str(kept))}>\)", _until_rename(trace, "old"))


def _until_rename(trace: Path, name: str) -> str:
    found = re.search(rf'rename.*"{name}"', trace.read_text())
    assert found
    return trace.read_text()[: found.start()]


@pytest.mark.parametrize(
    ("fault", "shown", "kept"),
    [
        pytest.param("?fsync:error=EIO:when=1", "old", 0, id="flush of the bytes"),
        pytest.param("?fsync:error=EIO:when=2", "old", 1, id="flush of the version"),
        pytest.param("?fsync:error=EIO:when=4", "new", 1, id="flush of the name"),
        pytest.param("?linkat:error=EIO", "old", 0, id="link of the version"),
        pytest.param("?rename,?renameat,?renameat2:error=EIO", "old", 1, id="replacing"),
        pytest.param("?linkat:error=EPERM ?sendfile:error=EIO", "old", 0, id="copy of the version"),
    ],
)
def test_a_failing_disk_gets_no_receipt_and_loses_nothing(
    tmp_path: Path, root: Path, fault: str, shown: str, kept: int
) -> None:
    put_into(root, IfExists.VERSION, "f", b"old")
    told = commit_apart(root, {"f": "new"}, strace(tmp_path / "trace", *fault.split()))
    assert told == [Code.STORAGE]
    assert (root / "f").read_text() == shown
    assert [path.read_text() for path in versions(root, "f")] == ["old"] * kept
    assert partials(root) == []


def test_one_failed_flush_refuses_the_whole_batch(tmp_path: Path, root: Path) -> None:
    LocalStore(str(root)).close()
    told = commit_apart(root, MANY, strace(tmp_path / "trace", "?syncfs:error=ENOSPC:when=2"))
    assert told == [Code.NO_SPACE] * len(MANY)
    assert (os.listdir(root), partials(root)) == ([".xfer"], [])


AFTER: Contents = {"old": "new content", "d/new": "new content", "link": ["old"]}


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_kill_at_any_step_leaves_each_name_old_or_new_and_loses_nothing(
    tmp_path: Path, stride: int
) -> None:
    def attempt(number: int, *inject: str) -> tuple[Path, Path]:
        directory, trace = tmp_path / f"dir{number}", tmp_path / f"trace{number}"
        directory.mkdir()
        put_into(directory, IfExists.VERSION, "old", b"old content")
        (directory / "link").symlink_to("before")
        told = commit_apart(directory, AFTER, strace(trace, *inject))
        assert bool(told) == (not inject)
        return directory, trace

    _, trace = attempt(0)
    every = [f"{call}:signal=KILL:when={n}" for call, n in _occurrences(trace)]
    assert len(every) > 10
    points = every[::-stride]  # the last one, at which all is done, among them
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        killed = list(threads.map(attempt, range(1, len(points) + 1), points))
    assert {(directory / "old").read_text() for directory, _ in killed} == {
        "old content",
        "new content",
    }
    for directory, _ in killed:
        _require_old_or_new(directory)
        _require_that_a_second_run_finishes(directory)


def _occurrences(trace: Path) -> list[tuple[str, int]]:
    """Every system call up to the receipt, and which of its kind it was.

    What comes after it is not the store's: coverage, for one, writes its data then.
    """
    until_told, _, _ = trace.read_text().partition("write(1<")
    calls = re.findall(r"^\d+ +([a-z0-9]+)\(", until_told, re.MULTILINE)
    return [(call, calls[: n + 1].count(call)) for n, call in enumerate(calls)]


def _require_old_or_new(directory: Path) -> None:
    new = directory / "d/new"
    assert not new.exists() or new.read_text() == "new content"
    assert os.readlink(directory / "link") in ("before", "old")
    shown = (directory / "old").read_text()
    assert shown in ("old content", "new content")
    assert shown == "old content" or versions(directory, "old")
    assert {path.read_text() for path in versions(directory, "old")} <= {"old content"}


def _require_that_a_second_run_finishes(directory: Path) -> None:
    with LocalStore(str(directory)) as store:
        assert partials(directory) == []
        writer = store.open_writer("default")
        for name in ("old", "d/new"):
            assert put(writer, name, b"new content") in ("stored", "versioned", "unchanged")
        commit(writer, [NewSymlink("link", "old")])
        writer.close()
    assert (directory / "old").read_text() == (directory / "d/new").read_text() == "new content"
    assert os.readlink(directory / "link") == "old"
    assert {path.read_text() for path in versions(directory, "old")} == {"old content"}


def test_a_name_that_is_taken_and_free_again_at_once_is_stored(tmp_path: Path, root: Path) -> None:
    """Another program made it twice, and each time removed it before it was looked at."""
    LocalStore(str(root)).close()
    taken_twice = strace(tmp_path / "trace", "?linkat:error=EEXIST:when=1..2")
    assert commit_apart(root, {"f": "data"}, taken_twice) == ["stored"]
    assert (root / "f").read_text() == "data"
    assert partials(root) == []


def test_a_name_that_is_always_taken_and_never_there_is_refused(tmp_path: Path, root: Path) -> None:
    LocalStore(str(root)).close()
    always_taken = strace(tmp_path / "trace", "?linkat:error=EEXIST")
    assert commit_apart(root, {"f": "data"}, always_taken) == [Code.STORAGE]
    assert (os.listdir(root), partials(root)) == ([".xfer"], [])
