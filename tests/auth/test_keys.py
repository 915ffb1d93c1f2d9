"""Secrets as people have them, and the keys that both sides make of them."""

import base64
import hashlib
import re

import pytest

from xfer.auth.keys import derive_key, generate_secret
from xfer.errors import LocalError


@pytest.mark.parametrize(
    "text", ["sixteen letters!", "pässwörter mögen lang sein", "a" * 16 + "\udcff"]
)
def test_a_passphrase_goes_through_scrypt(text: str) -> None:
    wanted = hashlib.scrypt(
        text.encode("utf-8", "surrogateescape"),
        salt=b"xfer/1 passphrase", n=32_768, r=8, p=1, maxmem=2**26, dklen=32,
    )  # fmt: skip
    assert derive_key(text).secret == wanted


def test_a_generated_secret_is_its_32_bytes() -> None:
    secret = generate_secret()
    assert re.fullmatch("xfer-key-[A-Za-z0-9_-]{43}", secret)
    spelled = derive_key(secret).secret
    assert len(spelled) == 32
    assert base64.urlsafe_b64encode(spelled) == secret.removeprefix("xfer-key-").encode() + b"="
    assert generate_secret() != secret


@pytest.mark.parametrize("text", ["", "hush", "x" * 15, "ü" * 15])
def test_a_short_passphrase_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(LocalError) as caught:
        derive_key(text)
    assert text not in caught.value.message.split()


def test_a_key_does_not_show_its_secret() -> None:
    key = derive_key(generate_secret())
    shown = f"{key!r} {key} {[key]} {[*key.__rich_repr__()]}"  # the last is what rich prints
    for spelling in (
        repr(key.secret)[2:-1],
        key.secret.hex(),
        base64.b64encode(key.secret).decode(),
    ):
        assert spelling not in shown
