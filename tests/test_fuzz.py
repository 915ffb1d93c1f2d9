"""Whatever comes in, a parser returns or refuses, and either side of a session ends in order.

The long runs are `pytest -m exhaustive tests/test_fuzz.py -s`; XFER_FUZZ_INPUTS
and XFER_FUZZ_SESSIONS say how long.
"""

import os
import secrets
import socket
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import fuzzing
from tests.mutations import EVERY_MESSAGE, PAYLOADS
from tests.processes import KEY
from xfer import auth, frames, messages
from xfer.channel import Channel
from xfer.errors import ConnectionLost, ProtocolError, XferError
from xfer.messages import Message, Welcome

INPUTS: Final = int(os.environ.get("XFER_FUZZ_INPUTS", "10_000_000"))
SESSIONS: Final = int(os.environ.get("XFER_FUZZ_SESSIONS", "100_000"))

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
        with pytest.raises((ProtocolError, ConnectionLost, XferError)):
            auth.admit_sender(channel, {"default": [KEY]}, b"", lambda _, mac: Welcome(mac, []))
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
