"""Names that are taken: the same content stays, older content is kept, refused or replaced."""

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.apart import Contents, commit_apart, strace
from tests.support.local_stores import MTIME, mode, partials, put_into, versions
from tests.support.processes import unprivileged
from tests.support.stores import commit, put, words
from tests.support.tools import without
from xfer.errors import Code
from xfer.storage.contract import IfExists, Metadata, NewSymlink, StoreWriter
from xfer.storage.local.pending import PendingItem
from xfer.storage.local.replacement import Replacement
from xfer.storage.local.store import LocalStore


@pytest.mark.parametrize("is_moved", [False, True])
def test_older_content_is_kept_again_after_its_directory_was_removed_by_hand(
    root: Path, writer: StoreWriter, is_moved: bool
) -> None:
    for content in (b"1", b"2"):
        put(writer, "f", content)
    if is_moved:
        (root / ".xfer/versions").rename(root / "moved")
    else:
        shutil.rmtree(root / ".xfer/versions")
    assert [put(writer, "f", content) for content in (b"3", b"4")] == ["versioned"] * 2
    assert [path.read_bytes() for path in versions(root, "f")] == [b"2", b"3"]
    assert mode(root / ".xfer/versions") == 0o700


def test_the_same_content_is_left_where_it_is_and_takes_the_new_time(
    root: Path, writer: StoreWriter
) -> None:
    put(writer, "f", b"data", Metadata(0o600, MTIME))
    inode = (root / "f").stat().st_ino
    assert put(writer, "f", b"data", Metadata(0o640, MTIME + 1)) == "unchanged"
    status = (root / "f").stat()
    assert (status.st_ino, status.st_mtime_ns, mode(root / "f")) == (inode, MTIME + 1, 0o640)
    assert versions(root, "f") == []


def test_a_file_whose_only_name_left_is_outside_keeps_its_mode_and_time(
    tmp_path: Path, root: Path, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program has linked it here, and removes that name once it is open."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"data")
    os.link(outside, root / "f")
    before = outside.stat()
    open_existing = Replacement._open_existing

    def opened_and_gone(self: Replacement, pending: PendingItem) -> int | None:
        descriptor = open_existing(self, pending)
        (root / "f").unlink()
        return descriptor

    monkeypatch.setattr(Replacement, "_open_existing", opened_and_gone)
    assert put(writer, "f", b"data", Metadata(0o640, MTIME)) == "stored"
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert mode(root / "f") == 0o640


def test_a_set_id_bit_of_the_same_content_outside_is_left_alone(
    tmp_path: Path, root: Path, writer: StoreWriter
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"data")
    outside.chmod(0o4755)
    os.utime(outside, ns=(MTIME, MTIME))
    os.link(outside, root / "f")
    assert put(writer, "f", b"data", Metadata(0o755, MTIME)) == "versioned"
    assert [mode(outside), mode(root / "f")] == [0o4755, 0o755]


def test_the_same_content_without_mode_and_time_leaves_those_it_had(
    root: Path, writer: StoreWriter
) -> None:
    put(writer, "f", b"data", Metadata(0o600, MTIME))
    assert put(writer, "f", b"data") == "unchanged"
    assert ((root / "f").stat().st_mtime_ns, mode(root / "f")) == (MTIME, 0o600)


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


@pytest.mark.timeout(10)
def test_a_fifo_in_place_of_the_name_keeps_nobody_waiting(root: Path, writer: StoreWriter) -> None:
    os.mkfifo(root / "f")
    assert put(writer, "f", b"data") == "versioned"
    assert (root / "f").read_bytes() == b"data"


def test_the_same_content_is_left_where_it_is_though_its_mode_forbids_to_read_it(
    root: Path,
) -> None:
    (root / "f").touch(mode=0o000)
    assert commit_apart(root, {"f": ""}, unprivileged()) == ["unchanged"]
    assert (versions(root, "f"), mode(root / "f")) == ([], 0)


def test_somebody_else_s_file_that_may_not_be_read_is_versioned_unseen(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file that is somebody else's")
    (root / "f").touch(mode=0o000)
    os.chown(root / "f", 1234, 1234)
    prefix = without("dac_override", "dac_read_search", "fowner")
    assert commit_apart(root, {"f": ""}, prefix) in (["versioned"], ["storage"])
    assert (root / "f").exists()


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
