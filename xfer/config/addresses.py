"""Addresses, as people write and read them."""

import re
from typing import Final

from msgspec import Struct

from xfer.config.defaults import DEFAULT_PORT
from xfer.errors import UsageError

_ADDRESS: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]\s]+)\]|(?P<host>[^\[\]:\s]+))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<ipv6>[^\[\]\s]*:[^\[\]\s]*:[^\[\]\s]*)"
)


class Address(Struct, frozen=True):
    """A host and a port."""

    host: str
    port: int = DEFAULT_PORT


def parse_address(text: str) -> Address:
    """The address in `nas`, `nas:9000`, `192.0.2.7:9000`, `2001:db8::1` or `[2001:db8::1]:9000`."""
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    if not found or not 0 < port < 65536:
        raise UsageError(f"{text} is not HOST or HOST:PORT")
    return Address(found["bracketed"] or found["host"] or found["ipv6"], port)


def format_address(host: str, port: int) -> str:
    """`nas:9337`, or `[2001:db8::1]:9337`: brackets keep the port apart from an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
