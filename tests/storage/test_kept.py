"""What interrupted sessions left: found by name, and no more of it than a sender may leave."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_stores import partials
from tests.support.stores import leave_partial
from xfer.storage.contract import StoreWriter
from xfer.storage.local.kept import MOST_KEPT
from xfer.storage.local.store import LocalStore

MOST_FOR_A_WHILE = MOST_KEPT + 500
_listings: list[object] = []


def _note_listing(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("os.listdir", "os.scandir"):
        _listings.append(arguments[0])


@pytest.fixture(scope="module")
def listings() -> list[object]:
    """Every directory that is listed from here on."""
    sys.addaudithook(_note_listing)
    return _listings


@pytest.fixture
def alice(store: LocalStore) -> Iterator[StoreWriter]:
    writer = store.open_writer("alice")
    yield writer
    writer.close()


def test_an_offer_looks_up_what_is_offered_and_lists_nothing(
    store: LocalStore, alice: StoreWriter, listings: list[object]
) -> None:
    for number in range(100):
        leave_partial(alice, f"a{number}", b"1")
    bob = store.open_writer("bob")
    leave_partial(bob, "b", b"1")
    offered = ["a1", "b", "new", *(f"n{number}" for number in range(1000))]
    listings.clear()
    assert (alice.kept(offered), bob.kept(offered)) == ({"a1"}, {"b"})
    assert listings == []
    bob.close()


def test_what_a_receiver_before_left_is_found_and_so_is_what_a_killed_worker_left(
    root: Path, store: LocalStore, alice: StoreWriter
) -> None:
    store.prepare_fork(1)
    open_when_killed = alice.create_partial("mine")
    open_when_killed.write(b"1")
    store.after_fork(0, 4_000_000)  # in the place of a process that is gone
    assert alice.kept(["mine", "other"]) == {"mine"}
    open_when_killed.keep()
    store.close()
    with LocalStore(str(root)) as again:
        writer = again.open_writer("alice")
        assert writer.kept(["mine", "other"]) == {"mine"}
        writer.close()


def test_a_sender_leaves_so_many_partials_and_the_oldest_go_first(
    root: Path, store: LocalStore, alice: StoreWriter
) -> None:
    bob = store.open_writer("bob")
    leave_partial(bob, "0", b"1")
    for number in range(MOST_FOR_A_WHILE + 200):
        leave_partial(alice, str(number), b"1")
    assert len(partials(root)) - 1 <= MOST_FOR_A_WHILE
    assert alice.kept([str(number) for number in range(50)]) == set()
    newest = [str(number) for number in range(1000, MOST_FOR_A_WHILE + 200)]
    assert alice.kept(newest) == set(newest)
    store.tidy()
    assert len(partials(root)) - 1 == MOST_KEPT
    assert bob.kept(["0"]) == {"0"}
    bob.close()


def test_what_a_session_has_open_is_not_removed_for_being_the_oldest(
    store: LocalStore, alice: StoreWriter
) -> None:
    busy = alice.create_partial("busy")
    busy.write(b"1")
    for number in range(MOST_KEPT):
        leave_partial(alice, str(number), b"1")
    store.tidy()
    assert alice.kept(["busy"]) == {"busy"}
    busy.discard()
