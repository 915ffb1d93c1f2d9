"""Directories made on the way to a name are private until their own mode is known."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_stores import mode
from tests.support.stores import commit, put, words
from xfer.storage.contract import Access, Metadata, NewDirectory, StoreWriter
from xfer.storage.local.store import LocalStore

DEFAULT = 0o755


@pytest.fixture(autouse=True)
def usual_umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("xfer.storage.posix.tree.DEFAULT_DIRECTORY_MODE", DEFAULT)
    before = os.umask(0o022)
    yield
    os.umask(before)


def access_for_others(path: Path) -> int:
    return mode(path) & 0o077


def test_nobody_else_enters_a_directory_before_its_mode_is_known(
    root: Path, writer: StoreWriter
) -> None:
    put(writer, "d/below/f", b"data", Metadata(0o644))
    assert [access_for_others(root / name) for name in ("d", "d/below")] == [0, 0]
    commit(writer, [NewDirectory("d/below", Metadata(0o751))])
    assert [mode(root / "d/below"), access_for_others(root / "d")] == [0o751, 0]
    commit(writer, [NewDirectory("d", Metadata(0o700))])
    writer.finish()
    assert [mode(root / name) for name in ("d", "d/below")] == [0o700, 0o751]


def test_it_stays_private_after_an_interruption_and_a_restart(root: Path) -> None:
    for finishes, expected in ((False, 0), (True, DEFAULT & 0o077)):
        with LocalStore(str(root)) as store:
            writer = store.open_writer("default")
            put(writer, "d/f", b"data")
            if finishes:
                writer.finish()
            writer.close()
        assert access_for_others(root / "d") == expected


def test_what_was_never_sent_gets_the_default_mode_once_the_sender_is_done(
    root: Path, writer: StoreWriter
) -> None:
    put(writer, "d/below/f", b"data")
    writer.finish()
    assert [mode(root / name) for name in ("d", "d/below")] == [DEFAULT, DEFAULT]


def test_a_directory_without_a_mode_gets_the_default_one(root: Path, writer: StoreWriter) -> None:
    put(writer, "d/f", b"data")
    assert words(commit(writer, [NewDirectory("d", Metadata())])) == ["stored"]
    commit(writer, [NewDirectory("empty", Metadata())])
    assert [mode(root / name) for name in ("d", "empty")] == [DEFAULT, DEFAULT]


def test_not_while_another_session_of_the_sender_may_still_send_it(
    root: Path, store: LocalStore, writer: StoreWriter
) -> None:
    other = store.open_writer("default")
    put(writer, "d/f", b"data")
    writer.finish()
    assert access_for_others(root / "d") == 0
    put(other, "d/g", b"data")
    commit(other, [NewDirectory("d", Metadata(0o700))])
    other.close()
    writer.finish()
    assert mode(root / "d") == 0o700


def test_what_was_private_before_stays_so(root: Path, writer: StoreWriter) -> None:
    (root / "mine").mkdir(mode=0o700)
    put(writer, "mine/f", b"data")
    commit(writer, [NewDirectory("mine", Metadata())])
    writer.finish()
    assert mode(root / "mine") == 0o700


def test_the_directory_of_a_key_has_the_default_mode_at_once(root: Path, store: LocalStore) -> None:
    writer = store.open_writer("ann", Access("clients/ann"))
    put(writer, "d/f", b"data")
    modes = [mode(root / name) for name in ("clients", "clients/ann")]
    assert [*modes, access_for_others(root / "clients/ann/d")] == [DEFAULT, DEFAULT, 0]
    writer.close()


def test_a_set_group_id_bit_from_above_is_inherited(root: Path, writer: StoreWriter) -> None:
    (root / "shared").mkdir()
    (root / "shared").chmod(0o2775)
    put(writer, "shared/d/f", b"data")
    assert access_for_others(root / "shared/d") == 0
    writer.finish()
    assert mode(root / "shared/d") == 0o2000 | DEFAULT
