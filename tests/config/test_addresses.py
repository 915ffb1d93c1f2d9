"""Addresses, as people write them."""

import pytest

from xfer.config.addresses import Address, parse_address
from xfer.config.defaults import DEFAULT_PORT
from xfer.errors import UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nas", Address("nas", DEFAULT_PORT)),
        ("nas.example.org:9000", Address("nas.example.org", 9000)),
        ("192.0.2.7:1", Address("192.0.2.7", 1)),
        ("192.0.2.7:65535", Address("192.0.2.7", 65535)),
        ("2001:db8::1", Address("2001:db8::1", DEFAULT_PORT)),
        ("::", Address("::", DEFAULT_PORT)),
        ("fe80::1%eth0", Address("fe80::1%eth0", DEFAULT_PORT)),
        ("[2001:db8::1]", Address("2001:db8::1", DEFAULT_PORT)),
        ("[2001:db8::1]:9000", Address("2001:db8::1", 9000)),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_port(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":9000",
        "nas:",
        "nas:0",
        "nas:65536",
        "nas:099999",
        "nas:-1",
        "nas:http",
        "nas:٣",  # a digit, but not of a port
        "nas ",
        "my nas",
        "nas\n",
        "[]",
        "[]:9000",
        "[::1",
        "::1]",
        "[::1]9000",
        "[::1]:",
        "[::1]:0",
    ],
)
def test_what_is_no_address_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)
