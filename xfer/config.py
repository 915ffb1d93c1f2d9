"""Environment and files, as plain values: where things are kept, and the secret."""

import os
import re
from typing import Final

from msgspec import Struct

from xfer.errors import UsageError

DEFAULT_PORT: Final = 9337
RETRY_SECONDS: Final = 60.0
MAX_UNAUTHENTICATED: Final = 100
MAX_CONNECTIONS: Final = 256
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]\s]+)\]|(?P<host>[^\[\]:\s]+))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<ipv6>[^\[\]\s]*:[^\[\]\s]*:[^\[\]\s]*)"
)
_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)(?:([KMGTP])(?:iB)?|B)?", re.IGNORECASE)
_UNITS: Final = " KMGTP"
_MAX_SIZE: Final = 2**63 - 1


class Address(Struct, frozen=True):
    """A host and a port, as in `HOST[:PORT]`."""

    host: str
    port: int = DEFAULT_PORT


def parse_address(text: str) -> Address:
    """`nas`, `nas:9000`, `192.0.2.7:9000`, `2001:db8::1` or `[2001:db8::1]:9000`."""
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    if not found or not 0 < port < 65536:
        raise UsageError(f"{text} is not HOST or HOST:PORT")
    return Address(found["bracketed"] or found["host"] or found["ipv6"], port)


def parse_size(text: str) -> int:
    """Bytes: `500M`, `20G` or `1.5T`, with units of 1024 as in `20GiB`; `4096` as it is."""
    size = -1
    if found := _SIZE.fullmatch(text):
        whole, _, part = found[1].partition(".")
        unit = _UNITS.index((found[2] or " ").upper())
        size = int(whole + part) * 1024**unit // 10 ** len(part)
    if not 0 <= size <= _MAX_SIZE:
        raise UsageError(f"{text} is not a size such as 500M, 20G or 1.5T")
    return size


def default_secret_file() -> str:
    """`xfer/secret` in the user's configuration directory (XDG Base Directory)."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "xfer", "secret")


def default_state_directory() -> str:
    """`xfer` in the user's state directory (XDG Base Directory)."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "xfer")
