"""What workers share in memory: who is in, and who has to wait."""

from functools import partial

import pytest

from tests.support.forks import elsewhere
from xfer.errors import Refused
from xfer.server.admission import Admission, Connection, ConnectionLimits
from xfer.server.shared_admission import SharedAdmission


def nothing() -> None:
    pass


def sender(admission: Admission, host: str = "192.0.2.1") -> Connection:
    connection = admission.admit(host, nothing)
    assert connection
    admission.proved(connection)
    return connection


# Senders


def test_places_are_those_of_the_house_and_one_that_is_left_is_free_for_all() -> None:
    shared = SharedAdmission(ConnectionLimits(max_connections=2), 2)
    one, other = shared.admission(0), shared.admission(1)
    first = sender(one)
    sender(other)
    for admission in (one, other):
        with pytest.raises(Refused, match="too many senders"):
            sender(admission)
    one.leave(first)
    sender(other)


def test_a_place_that_was_taken_in_another_process_is_taken() -> None:
    shared = SharedAdmission(ConnectionLimits(max_connections=2), 2)
    assert elsewhere(lambda: sender(shared.admission(1)))
    admission = shared.admission(0)
    sender(admission)
    with pytest.raises(Refused, match="too many senders"):
        sender(admission)


def test_who_takes_the_number_of_one_that_died_begins_with_nobody() -> None:
    shared = SharedAdmission(ConnectionLimits(max_connections=2), 2)
    dead = shared.admission(1)
    sender(dead)
    sender(dead)
    assert sender(shared.admission(1))


def test_the_workers_shares_of_strangers_are_all_there_are() -> None:
    shared = SharedAdmission(ConnectionLimits(max_unauthenticated=10), 3)
    inside: set[str] = set()
    for number in range(3):
        admission = shared.admission(number)
        for network in range(100):
            host = f"198.51.{number}.{network}"
            if admission.admit(host, partial(inside.discard, host)):
                inside.add(host)
    assert len(inside) == 10


# Wrong proofs


def test_a_network_that_failed_in_another_process_has_to_wait_until_it_is_forgiven() -> None:
    shared = SharedAdmission(ConnectionLimits(), 2)

    def fail() -> bool:
        admission = shared.admission(1)
        connections = [admission.admit("192.0.2.1", nothing) for _ in range(5)]
        for connection in connections:
            assert connection
            admission.failed_proof(connection)
        return True

    before = shared.admission(0).admit("192.0.2.1", nothing)
    assert elsewhere(fail)
    admission = shared.admission(0)
    assert admission.admit("192.0.2.1", nothing) is None
    assert admission.admit("192.0.2.2", nothing)
    assert before
    admission.proved(before)
    assert admission.admit("192.0.2.1", nothing)


def test_only_so_many_networks_are_remembered_and_the_latest_are_among_them() -> None:
    shared = SharedAdmission(ConnectionLimits(), 2)
    for number in range(10_000):
        shared.note_failures(f"network {number}", 1, float(number))
    known = [number for number in range(10_000) if shared.failures(f"network {number}")[0]]
    assert 3000 < len(known) <= 4096
    assert known[-1] == 9_999
    assert sum(known) / len(known) > 6_000


def test_who_asks_about_a_network_makes_none_forgotten() -> None:
    shared = SharedAdmission(ConnectionLimits(), 2)
    for number in range(2000):
        shared.note_failures(f"network {number}", 1, 1.0)
    known = [number for number in range(2000) if shared.failures(f"network {number}")[0]]
    for number in range(10_000):
        assert shared.failures(f"stranger {number}") == (0, 0.0)
    assert known == [number for number in range(2000) if shared.failures(f"network {number}")[0]]
