"""Errors: what a peer sends becomes the error it stands for, whatever it sends."""

import pytest

from xfer.errors import (
    RETRYABLE,
    AuthenticationError,
    Code,
    ConnectionLost,
    CorruptData,
    PeerTimeout,
    ProtocolError,
    Refused,
    XferError,
    from_peer,
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("auth_failed", AuthenticationError),
        ("tls_required", AuthenticationError),
        ("busy", ConnectionLost),
        ("shutting_down", ConnectionLost),
        ("timeout", PeerTimeout),
        ("bad_frame", ProtocolError),
        ("digest_mismatch", CorruptData),
        ("quota", Refused),
        ("of a later version", Refused),
    ],
)
def test_a_code_word_has_its_kind_of_error(code: str, kind: type[XferError]) -> None:
    error = from_peer(code, "sorry", retryable=False)
    assert type(error) is kind
    assert (error.code, error.message, error.is_from_peer) == (code, "sorry", True)


@pytest.mark.parametrize("retryable", [True, False])
def test_the_peer_says_whether_to_try_again(retryable: bool) -> None:
    assert from_peer("quota", "", retryable=retryable).retryable is retryable
    assert from_peer("busy", "", retryable=retryable).retryable is retryable


def test_a_long_message_is_cut() -> None:
    assert len(from_peer("quota", "x" * 100_000, retryable=False).message) == 500


@pytest.mark.parametrize("code", Code)
def test_a_code_word_says_by_itself_whether_to_try_again(code: Code) -> None:
    assert XferError("sorry", code=code).retryable is (code in RETRYABLE)


def test_a_sentence_that_is_added_is_said_too() -> None:
    error = Refused("no room", code=Code.QUOTA)
    error.add("try another disk")
    assert str(error) == error.message == "no room; try another disk"
