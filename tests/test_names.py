"""Names: every POSIX name survives the wire, and what is unsafe is refused as it came."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xfer import names
from xfer.errors import Code, Refused

CONTROLS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))]
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def is_plain(component: bytes) -> bool:
    """Whether the rules leave this component alone; said here in bytes, not in text."""
    spelled_c1 = any(b"\xc2" + bytes([c]) in component for c in range(0x80, 0xA0))
    special = component in (b"", b".", b"..", b".xfer")
    return not special and not spelled_c1


COMPONENTS = st.lists(
    st.sampled_from([c for c in range(0x20, 0x100) if c not in b"/\x7f"]), max_size=40
).map(bytes)


@given(st.lists(COMPONENTS.filter(is_plain), min_size=1, max_size=4))
@settings(deadline=None)
def test_any_posix_name_survives_the_way_to_the_wire_and_back(components: list[bytes]) -> None:
    on_disk = b"/".join(components)
    name = names.from_bytes(on_disk)
    assert names.check(name) == name
    assert names.to_bytes(name) == on_disk


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1))
@settings(deadline=None)
def test_any_text_is_stored_under_the_bytes_it_spells(text: str) -> None:
    name = "x/" + text
    if text in (".", ".."):
        with pytest.raises(Refused):
            names.check(name)
    elif len(text.encode()) <= names.MAX_COMPONENT:
        assert names.to_bytes(names.check(name)) == name.encode()


REFUSED = {
    "empty": "",
    "absolute": "/etc/passwd",
    "empty component": "a//b",
    "trailing slash": "a/",
    "only a slash": "/",
    "this directory": ".",
    "this directory inside": "a/./b",
    "parent": "..",
    "parent first": "../a",
    "parent inside": "a/../../b",
    "parent last": "a/..",
    "the receiver's own": ".xfer",
    "below the receiver's own": ".xfer/partials/a",
    "component too long": "a" * 256,
    "component too long in bytes": "ü" * 128,
    "component of strange bytes too long": "\udcff" * 256,
    "name too long": "/".join(["a" * 99] * 41),
    "a high surrogate": "a\ud800",
    "a low surrogate below a byte": "a\udc7f",
    "a low surrogate above a byte": "a\udd00",
    "a pair": "\ud83d\udcc4",
    "a surrogate for a slash": "..\udc2f",
}


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED.keys())
def test_an_unsafe_name_is_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        names.check(name)
    assert (caught.value.code, caught.value.retryable) == (Code.BAD_NAME, False)


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_a_control_character_is_refused_anywhere(control: str) -> None:
    for name in (control, f"{control}a", f"a{control}", f"a/b{control}c/d"):
        with pytest.raises(Refused):
            names.check(name)


@given(st.text(st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), min_size=1))
@settings(deadline=None)
def test_surrogates_that_spell_valid_utf8_are_no_second_spelling(text: str) -> None:
    smuggled = "".join(chr(0xDC00 + byte) for byte in text.encode())
    with pytest.raises(Refused):
        names.check(f"a{smuggled}")
    with pytest.raises(Refused):
        names.check_target(f"a{smuggled}")


@given(st.text(st.characters(categories=["L", "N", "Zs", "Cc", "Cs"]) | st.sampled_from("/.\0")))
@settings(deadline=None)
def test_two_accepted_names_are_never_the_same_on_disk(name: str) -> None:
    try:
        accepted = names.check(name)
    except Refused:
        return
    assert accepted == name == names.from_bytes(names.to_bytes(name))


LONGEST = {
    "component": "a" * 255,
    "component in bytes": "ü" * 127 + "a",
    "component of strange bytes": "\udcff" * 255,
    "name": "/".join(["a" * 255] * 16) + "/",
}


@pytest.mark.parametrize("name", [n.rstrip("/") for n in LONGEST.values()], ids=LONGEST.keys())
def test_the_longest_names_pass(name: str) -> None:
    assert names.check(name) == name


@pytest.mark.parametrize("size", [4095, 4096])
def test_a_whole_name_may_have_4096_bytes(size: int) -> None:
    exact = "a/" * (size // 2 - 1)
    exact += "a" * (size - len(exact))
    assert names.check(exact) == exact
    with pytest.raises(Refused):
        names.check(exact + "a" * (4097 - size))


@pytest.mark.parametrize(
    "name", ["...", ".xfer2", "a/.xfer", ".XFER", "~", "-rf", "a b", "*", "\\"]
)
def test_a_name_that_only_looks_odd_is_accepted(name: str) -> None:
    assert names.check(name) == name


@pytest.mark.parametrize("target", ["/etc/passwd", "../..", "a//b/", "\n", "\udcff", "x" * 4095])
def test_a_link_may_point_anywhere(target: str) -> None:
    assert names.check_target(target) == target


@pytest.mark.parametrize("target", ["", "a\0", "\ud800", "x" * 4096, "ü" * 2048], ids=ascii)
def test_a_target_that_no_link_can_hold_is_refused(target: str) -> None:
    with pytest.raises(Refused) as caught:
        names.check_target(target)
    assert caught.value.code == Code.BAD_NAME


@given(st.text(st.characters() | st.sampled_from([*CONTROLS, *BIDI, "\u2028", "\ud800", "\udcff"])))
@settings(deadline=None)
def test_nothing_printable_steers_a_terminal_or_breaks_a_line(text: str) -> None:
    shown = names.printable(text)
    assert {unicodedata.category(c) for c in shown}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    assert not set(shown).intersection(BIDI)
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S"]) | st.just(" ")))
@settings(deadline=None)
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert names.printable(text) == text


@given(st.lists(st.binary(max_size=60), unique=True))
@settings(deadline=None)
def test_a_fingerprint_is_short_and_no_other_name_has_it(on_disk: list[bytes]) -> None:
    prints = {names.fingerprint(name) for name in on_disk}
    assert len(prints) == len(on_disk)
    assert {len(one) for one in prints} <= {16}
    assert len(names.fingerprint(b"n" * names.MAX_NAME)) == 16
