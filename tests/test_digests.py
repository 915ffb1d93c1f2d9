"""Digests: in pieces or in one go they are the same, and an unknown kind is refused."""

import hashlib
from collections.abc import Callable

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xfer import digests
from xfer.errors import Code, Refused

ONE_SHOT: dict[str, Callable[[bytes], str]] = {
    "md5": lambda data: hashlib.md5(data).hexdigest(),
    "blake3": lambda data: blake3.blake3(data).hexdigest(),
}


@pytest.mark.parametrize("algorithm", ONE_SHOT)
@given(pieces=st.lists(st.binary(max_size=5000), max_size=8))
@settings(deadline=None)
def test_a_digest_of_pieces_is_the_digest_of_the_whole(algorithm: str, pieces: list[bytes]) -> None:
    digest = digests.new(algorithm)
    for end, piece in enumerate(pieces, 1):
        digest.update(memoryview(piece))
        assert digest.hexdigest() == ONE_SHOT[algorithm](b"".join(pieces[:end]))


def test_md5_comes_first_of_what_is_available() -> None:
    assert digests.available() == ("md5", "blake3")


@pytest.mark.parametrize("algorithm", ["sha256", "", "MD5", "md4"])
def test_an_unknown_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(Refused) as caught:
        digests.new(algorithm)
    assert caught.value.code == Code.UNSUPPORTED
