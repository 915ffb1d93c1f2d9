"""Whatever comes in, a parser returns or refuses, and either side of a session ends in order.

The long runs are `pytest -m exhaustive tests/attacks/test_fuzz.py -s`; XFER_FUZZ_INPUTS
and XFER_FUZZ_SESSIONS say how long.
"""

import os
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import fuzzing
from tests.support.fuzzed_receivers import defend
from tests.support.fuzzed_sessions import attack, receiving_for_long
from tests.support.mutations import EVERY_MESSAGE, PAYLOADS
from tests.support.processes import KEY
from xfer.auth.opening import admit_sender
from xfer.errors import ProtocolError, XferError
from xfer.wire import frames, messages
from xfer.wire.channel import Channel
from xfer.wire.messages import Message, Welcome

INPUTS: Final = int(os.environ.get("XFER_FUZZ_INPUTS", "10_000_000"))
SESSIONS: Final = int(os.environ.get("XFER_FUZZ_SESSIONS", "100_000"))

OWN: Final = {"log", "received", "state"}
"""What a receiver has in its home; what is sent is below `received`."""

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-(2**63), 2**63, 10**400, -1, 0, 1024])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def seed() -> int:
    """Printed, so that a failure can be had again."""
    chosen = secrets.randbelow(2**32)
    print(f"seed {chosen}")
    return chosen


# Parsers


@given(st.sampled_from(PAYLOADS), st.data())
@settings(deadline=None)
def test_a_message_with_any_value_in_any_place_is_a_message_or_a_protocol_error(
    payload: bytes, data: st.DataObject
) -> None:
    fields = frames.decode(payload)
    for key in data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=3)):
        fields[key] = data.draw(JSON)
    try:
        message = messages.parse(frames.encode(fields)[4:])
    except ProtocolError:
        return
    assert messages.parse(messages.encode(message)[4:]) == message


@given(st.lists(st.binary(max_size=300) | st.sampled_from(PAYLOADS).map(fuzzing.framed)))
@settings(deadline=None, max_examples=50)
def test_no_bytes_open_a_receiver_without_a_proof(pieces: list[bytes]) -> None:
    here, there = socket.socketpair()
    with there:
        channel = Channel(here, 5)
        there.sendall(b"".join(pieces))
        there.shutdown(socket.SHUT_WR)
        with pytest.raises(XferError):
            admit_sender(channel, {"default": [KEY]}, b"", lambda _, mac: Welcome(mac, []))
        channel.close()


def test_mutated_input_is_taken_or_refused() -> None:
    tally = fuzzing.parse(20_000, seed())
    assert tally.is_clean, tally


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: message.type)
def test_a_message_cut_anywhere_is_a_protocol_error(message: Message) -> None:
    payload = messages.encode(message)[4:]
    for cut in range(len(payload)):
        with pytest.raises(ProtocolError):
            messages.parse(payload[:cut])


@pytest.mark.exhaustive
@pytest.mark.timeout(24 * 3600)
def test_ten_million_mutated_inputs_crash_nothing() -> None:
    tally = fuzzing.in_processes(fuzzing.parse, INPUTS, seed())
    print(f"parsers: {tally}")
    assert tally.is_clean, tally


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.skipif(not find_spec("atheris"), reason="atheris is not installed")
def test_inputs_that_look_for_new_branches_crash_nothing() -> None:
    program = [sys.executable, "-m", "tests.support.coverage_guided"]
    command = [*program, "-runs=200000", "-max_len=4096"]
    done = subprocess.run(command, check=False, capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-4000:]


# Sessions


def attacked(home: Path, count: int, *, plaintext: bool) -> fuzzing.Tally:
    option = ["--insecure-plaintext"] if plaintext else []
    with receiving_for_long(home, "--no-fsync", "--access", "read-write", *option) as target:
        return attack(target, count, seed())


@pytest.mark.parametrize("plaintext", [True, False], ids=["plaintext", "TLS"])
def test_mutated_senders_leave_a_receiver_as_it_was(tmp_path: Path, plaintext: bool) -> None:
    tally = attacked(tmp_path, 120, plaintext=plaintext)
    assert tally.is_clean, tally
    assert OWN.issuperset(os.listdir(tmp_path))


@pytest.mark.parametrize("plaintext", [True, False], ids=["plaintext", "TLS"])
def test_mutated_receivers_get_a_sender_into_no_trouble(tmp_path: Path, plaintext: bool) -> None:
    tally = defend(tmp_path, 60, seed(), plaintext=plaintext)
    assert tally.is_clean, tally


@pytest.mark.exhaustive
@pytest.mark.timeout(24 * 3600)
def test_a_hundred_thousand_mutated_sessions_leave_both_sides_as_they_were(tmp_path: Path) -> None:
    """A fifth of them are of a sender with hostile receivers; half of each are over TLS."""
    towards_sender = SESSIONS // 5

    def one(number: int) -> fuzzing.Tally:
        home, plaintext = tmp_path / str(number), number % 2 == 0
        home.mkdir()
        if number < 2:
            return attacked(home, (SESSIONS - towards_sender) // 2, plaintext=plaintext)
        return defend(home, towards_sender // 2, seed(), plaintext=plaintext)

    what = ["receiver, plaintext", "receiver, TLS", "sender, plaintext", "sender, TLS"]
    with ThreadPoolExecutor(len(what)) as pool:
        tallies = dict(zip(what, pool.map(one, range(len(what))), strict=True))
    for name, tally in tallies.items():
        print(f"{name}: {tally}")
    assert all(tally.is_clean for tally in tallies.values())
