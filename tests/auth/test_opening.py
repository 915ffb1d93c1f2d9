"""The opening: who holds the secret gets in, everybody else learns nothing, at either end."""

import hashlib
import socket
from collections.abc import Callable

import pytest

from tests.support.channels import concurrently, joined
from xfer.auth.keys import Key
from xfer.auth.opening import admit_sender, prove_to_receiver, transcribe
from xfer.errors import AuthenticationError, ConnectionLost, ProtocolError, XferError
from xfer.wire.channel import Channel
from xfer.wire.messages import Challenge, Done, Error, Hello, Message, Proof, Welcome

OURS, OTHER = Key(b"k" * 32), Key(b"o" * 32)
KEYS = {"default": OURS, "second": OTHER}
OPENING = {key_id: [key] for key_id, key in KEYS.items()}
BINDING = hashlib.sha256(b"certificate").digest()
NONCE = "0f" * 32

End = Callable[[Channel], object]


def sender(key: Key = OURS, binding: bytes = BINDING, key_id: str = "default") -> End:
    return lambda channel: prove_to_receiver(channel, key, binding, key_id)


def receiver(channel: Channel) -> str:
    return heard_by_receiver(channel).key_id


def heard_by_receiver(channel: Channel) -> Hello:
    """As the server does it: what goes wrong is said to the peer."""
    try:
        return admit_sender(
            channel, OPENING, BINDING, lambda _, mac: Welcome(mac, ["md5", "blake3"])
        )
    except XferError as error:
        channel.end_with(error)
        raise


def outcome(end: End, channel: Channel) -> object:
    try:
        return end(channel)
    except XferError as error:
        return error
    finally:
        channel.close()


def opened(one: End, other: End) -> tuple[object, object]:
    """What each end returned, or the error that it raised."""
    with joined(socket.socketpair(), 5) as (ours, theirs):
        said, heard = concurrently(lambda: outcome(one, ours), lambda: outcome(other, theirs))
        return said, heard


def say(channel: Channel, message: Message) -> bytes:
    payload = channel.send(message)
    channel.flush()
    return payload


@pytest.mark.parametrize(("key_id", "key"), KEYS.items(), ids=KEYS.keys())
def test_both_ends_open_with_the_same_secret(key_id: str, key: Key) -> None:
    welcome, admitted = opened(sender(key, key_id=key_id), receiver)
    assert isinstance(welcome, Welcome)
    assert welcome.digests == ["md5", "blake3"]
    assert admitted == key_id


@pytest.mark.parametrize(
    "intruder",
    [
        sender(OTHER),
        sender(OURS, key_id="second"),
        sender(OURS, key_id="nobody"),
        sender(OURS, key_id=""),
        sender(Key(b"")),
        sender(binding=hashlib.sha256(b"a relay's").digest()),
        sender(binding=b""),
    ],
    ids=[
        "wrong secret", "another id's secret", "unknown id", "empty id", "empty secret",
        "a relay's certificate", "TLS stripped by a relay",
    ],
)  # fmt: skip
def test_whoever_cannot_prove_it_gets_one_and_the_same_answer(intruder: End) -> None:
    told, raised = opened(intruder, receiver)
    assert isinstance(told, AuthenticationError)
    assert isinstance(raised, AuthenticationError)
    assert told.message == "the two sides do not hold the same secret"
    assert (told.code, told.retryable) == ("auth_failed", False)


def posing_as_receiver(mac: Callable[[bytes, bytes], bytes]) -> End:
    """A receiver that welcomes with `mac(transcript, client's proof)`; says what came then."""

    def pose(channel: Channel) -> object:
        hello = channel.receive_payload()
        challenge = say(channel, Challenge(1, NONCE))
        proof = bytes.fromhex(channel.expect(Proof).mac)
        say(channel, Welcome(mac(transcribe(hello, challenge, BINDING), proof).hex(), []))
        return channel.receive()

    return pose


def test_a_receiver_is_believed_for_the_right_mac_only() -> None:
    welcome, after = opened(sender(), posing_as_receiver(OURS.server_proof))
    assert isinstance(welcome, Welcome)
    assert isinstance(after, ConnectionLost)


@pytest.mark.parametrize(
    "mac",
    [
        lambda _, proof: proof,
        lambda _, proof: bytes(32),
        OTHER.server_proof,
        lambda transcript, proof: OURS.server_proof(transcript, bytes(32)),
        lambda transcript, proof: OURS.server_proof(bytes(32), proof),
        lambda transcript, proof: OURS.client_proof(transcript + proof),
    ],
    ids=["echo", "zeros", "another secret", "another proof", "another transcript", "client's key"],
)
def test_a_fake_receiver_is_found_out_and_told_nothing_more(
    mac: Callable[[bytes, bytes], bytes],
) -> None:
    raised, after = opened(sender(), posing_as_receiver(mac))
    assert isinstance(raised, AuthenticationError)
    assert isinstance(after, ConnectionLost)


def posing_as_sender(mac: Callable[[bytes], bytes]) -> End:
    """A sender that proves itself with `mac(transcript)`; says what came then."""

    def pose(channel: Channel) -> object:
        hello = say(channel, Hello(1, "default", NONCE))
        transcript = transcribe(hello, channel.receive_payload(), BINDING)
        say(channel, Proof(mac(transcript).hex()))
        return channel.receive()

    return pose


def test_a_sender_is_admitted_for_the_right_mac() -> None:
    answer, admitted = opened(posing_as_sender(OURS.client_proof), receiver)
    assert isinstance(answer, Welcome)
    assert admitted == "default"


@pytest.mark.parametrize(
    "mac",
    [
        lambda transcript: bytes(32),
        lambda transcript: OURS.client_proof(bytes(32)),
        lambda transcript: OURS.server_proof(transcript, b""),
    ],
    ids=["zeros", "replayed", "receiver's key"],
)
def test_a_fake_sender_is_refused_without_a_welcome(mac: Callable[[bytes], bytes]) -> None:
    answer, raised = opened(posing_as_sender(mac), receiver)
    assert isinstance(answer, Error)
    assert isinstance(raised, AuthenticationError)


def test_every_challenge_is_new() -> None:
    def ask(channel: Channel) -> str:
        say(channel, Hello(1, "default", NONCE))
        return channel.expect(Challenge).nonce

    assert opened(ask, receiver)[0] != opened(ask, receiver)[0]


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_not_spoken_with(version: int) -> None:
    def old_sender(channel: Channel) -> object:
        say(channel, Hello(version, "default", NONCE))
        return channel.receive()

    def old_receiver(channel: Channel) -> object:
        channel.expect(Hello)
        say(channel, Challenge(version, NONCE))
        return channel.receive()

    answer, raised = opened(old_sender, receiver)
    assert isinstance(answer, Error)
    assert isinstance(raised, ProtocolError)
    raised, after = opened(sender(), old_receiver)
    assert isinstance(raised, ProtocolError)
    assert isinstance(after, ConnectionLost)


@pytest.mark.parametrize("message", [Proof(NONCE), Challenge(1, NONCE), Done()])
def test_an_opening_that_begins_otherwise_is_refused(message: Message) -> None:
    def begin(channel: Channel) -> object:
        say(channel, message)
        return channel.receive()

    answer, raised = opened(begin, receiver)
    assert isinstance(answer, Error)
    assert answer.code == "bad_frame"
    assert isinstance(raised, ProtocolError)


@pytest.mark.parametrize("host", ["", "laptop", "caf\udce9"])
def test_the_receiver_hears_what_the_sender_s_machine_calls_itself(host: str) -> None:
    """It is part of the hello, and so of what both sides prove."""
    welcome, hello = opened(
        lambda channel: prove_to_receiver(channel, OURS, BINDING, "default", host),
        heard_by_receiver,
    )
    assert isinstance(welcome, Welcome)
    assert isinstance(hello, Hello)
    assert (hello.key_id, hello.host) == ("default", host)


def test_a_longer_name_of_a_machine_is_a_bad_frame() -> None:
    _, error = opened(
        lambda channel: prove_to_receiver(channel, OURS, BINDING, "default", 65 * "a"),
        heard_by_receiver,
    )
    assert isinstance(error, ProtocolError)
