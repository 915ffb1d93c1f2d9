"""A local store: partials that no session came back for are removed, and no descriptor is left."""

import os
from pathlib import Path

import pytest

from tests.support.local_stores import open_descriptors, partials, put_into
from tests.support.stores import put
from xfer.errors import LocalError
from xfer.storage.contract import Access, IfExists
from xfer.storage.local.store import LocalStore


def test_partials_that_no_session_came_back_for_are_removed_but_for_those_in_use(
    root: Path,
) -> None:
    with LocalStore(str(root), partial_days=0) as store:
        writer = store.open_writer("default")
        for name in ("left", "taken up"):
            partial = writer.create_partial(name, 100)
            partial.write(b"half")
            partial.keep()
        taken_up = writer.find_partial("taken up")
        assert taken_up
        store.tidy()
        assert len(partials(root)) == 1
        assert writer.find_partial("left") is None
        taken_up.keep()
        store.tidy()
        assert partials(root) == []
        writer.close()


def test_a_partial_is_there_for_its_sender_only_and_after_a_restart(root: Path) -> None:
    with LocalStore(str(root)) as store:
        writer = store.open_writer("alice")
        partial = writer.create_partial("file", 100)
        partial.write(b"half")
        partial.keep()
        writer.close()
    with LocalStore(str(root)) as store:
        assert store.leftovers.resumable == 1
        alice, bob = store.open_writer("alice"), store.open_writer("bob")
        assert (alice.kept(["file", "other"]), bob.kept(["file"])) == ({"file"}, set())
        assert bob.find_partial("file") is None
        found = alice.find_partial("file")
        assert found
        assert found.size == 4
        found.discard()
        for writer in (alice, bob):
            writer.close()


def test_what_holds_for_one_sender_comes_before_what_holds_for_all(root: Path) -> None:
    put_into(root, IfExists.REFUSE, "f", b"old")
    with LocalStore(str(root), IfExists.REFUSE) as store:
        one = store.open_writer("one", Access(if_exists=IfExists.REPLACE))
        other = store.open_writer("other")
        assert [put(writer, "f", b"new") for writer in (other, one)] == ["exists", "stored"]
        for writer in (one, other):
            writer.close()


def test_a_store_that_is_closed_leaves_no_descriptor(root: Path) -> None:
    before = open_descriptors()
    with LocalStore(str(root)) as store:
        store.open_writer("default").close()
    assert open_descriptors() == before
    os.rename(root / ".xfer", root / "moved")
    (root / ".xfer").touch()
    with pytest.raises(LocalError):
        LocalStore(str(root))
    assert open_descriptors() == before
