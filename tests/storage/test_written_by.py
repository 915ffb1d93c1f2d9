"""Which machine last wrote a name, as far as the file system remembers it."""

import contextlib
import os
import time
from pathlib import Path

import pytest

from xfer.storage.contract import Access, IfExists, Metadata, NewFile
from xfer.storage.local.store import LocalStore

ATTRIBUTE = "user.xfer.host"
HOSTS = "user.xfer.hosts"


@pytest.fixture(autouse=True)
def _attributes(root: Path) -> None:
    try:
        os.setxattr(root, ATTRIBUTE, b"x")
        os.removexattr(root, ATTRIBUTE)
    except OSError:
        pytest.skip("this file system keeps no extended attributes")


@pytest.fixture(autouse=True)
def _others_have_sent(root: Path, _attributes: None) -> None:
    previous(root, "zero", b"0")
    (root / "docs" / "f").unlink()


def previous(
    root: Path,
    host: str,
    content: bytes,
    access: Access = Access(),  # noqa: B008
    name: str = "docs/f",
) -> str:
    """Whose content of a name a machine replaces, as a receiver that was just started says."""
    with LocalStore(str(root)) as store:
        writer = store.open_writer("default", access, host=host)
        with contextlib.closing(writer):
            partial = writer.create_partial()
            partial.write(content)
            partial.finish(Metadata(0o444, 1))
            for wait in writer.commit([NewFile(name, partial)]):
                wait()
            return partial.previous_host


def test_who_replaces_what_another_machine_wrote_is_told_which(root: Path) -> None:
    told = [
        previous(root, host, content)
        for host, content in [
            ("one", b"1"),  # nothing was there
            ("one", b"2"),  # its own
            ("two", b"2"),  # the same content: it stays the first one's
            ("two", b"3"),
            ("one", b"4"),
            ("", b"5"),  # an older sender says nothing, and is told nothing
            ("two", b"6"),
        ]
    ]
    assert told == ["", "", "", "one", "two", "", ""]


@pytest.mark.parametrize("if_exists", list(IfExists))
def test_so_it_is_whatever_happens_to_older_content(root: Path, if_exists: IfExists) -> None:
    access = Access("clients", if_exists=if_exists)
    assert previous(root, "one", b"1", access) == ""
    refuses = if_exists is IfExists.REFUSE
    assert previous(root, "two", b"2", access) == ("" if refuses else "one")


def test_what_another_program_put_there_is_nobody_s(root: Path) -> None:
    previous(root, "one", b"1")
    (root / "docs" / "f").unlink()
    (root / "docs" / "f").write_bytes(b"by hand")
    assert previous(root, "two", b"2") == ""


def test_an_attribute_that_another_program_changed_is_bounded(root: Path) -> None:
    previous(root, "one", b"1")
    (root / "docs" / "f").chmod(0o644)
    os.setxattr(root / "docs" / "f", ATTRIBUTE, b"\xff" * 200)
    told = previous(root, "two", b"2")
    assert 0 < len(told) <= 48


def test_a_long_name_takes_no_block_of_its_own(root: Path) -> None:
    previous(root, 64 * "a", b"1")
    assert os.getxattr(root / ".xfer", HOSTS) == b"zero\n" + 48 * b"a" + b"\n"
    assert len(os.getxattr(root / "docs" / "f", ATTRIBUTE)) <= 48
    assert previous(root, 64 * "a", b"2") == ""


def test_while_one_machine_sends_nothing_is_written_with_its_files(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    assert [previous(alone, "one", content) for content in (b"1", b"2")] == ["", ""]
    time.sleep(0.05)  # until the clock of the file system has moved on
    assert os.listxattr(alone / "docs" / "f") == []
    assert previous(alone, "two", b"3") == "one"
    assert previous(alone, "one", b"4") == "two"


def test_the_first_overwrite_of_what_a_lone_machine_wrote_is_told_whenever_it_comes(
    tmp_path: Path,
) -> None:
    alone = tmp_path / "alone"
    (alone / "docs").mkdir(parents=True)
    (alone / "docs" / "by hand").write_bytes(b"before any machine sent")
    time.sleep(0.05)  # until the clock of the file system has moved on
    elsewhere = Access("elsewhere")
    assert previous(alone, "one", b"1") == ""
    time.sleep(0.05)
    assert previous(alone, "two", b"2", elsewhere) == ""
    (alone / "docs" / "by hand, later").write_bytes(b"2")
    assert previous(alone, "three", b"3", name="docs/by hand") == ""
    assert previous(alone, "three", b"3", name="docs/by hand, later") == ""
    assert previous(alone, "three", b"3") == "one"
    assert previous(alone, "one", b"4", elsewhere) == "two"


def test_what_was_there_before_this_was_noted_is_nobody_s(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    previous(alone, "one", b"1")
    os.removexattr(alone / ".xfer", "user.xfer.alone")  # as an older receiver leaves it
    assert previous(alone, "two", b"2") == ""
    assert previous(alone, "one", b"3") == "two"


def test_the_list_of_machines_is_bounded_and_may_be_lost(root: Path) -> None:
    for number in range(30):
        previous(root, f"{number:048}", b"%d" % number)
    assert 1024 <= len(os.getxattr(root / ".xfer", HOSTS)) < 1024 + 49
    assert previous(root, "new\nline", b"new") == f"{29:048}"
    os.removexattr(root / ".xfer", HOSTS)
    assert previous(root, "one", b"1") == ""
    time.sleep(0.05)
    assert previous(root, "two", b"2") == "one"
    assert previous(root, "one", b"3") == "two"
