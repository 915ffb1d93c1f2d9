"""Environment and files, as plain values: where things are kept, and the secret."""

import os
import re
from typing import Final

from msgspec import Struct

from xfer.auth import DEFAULT_KEY_ID, generate_secret
from xfer.errors import UsageError
from xfer.system import private_files

DEFAULT_PORT: Final = 9337
RETRY_SECONDS: Final = 60.0
MAX_UNAUTHENTICATED: Final = 100
MAX_CONNECTIONS: Final = 256
SECRET_VARIABLE: Final = "XFER_SECRET"  # noqa: S105 (where it is, not what it is)
KEY_ID_VARIABLE: Final = "XFER_KEY_ID"
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]\s]+)\]|(?P<host>[^\[\]:\s]+))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<ipv6>[^\[\]\s]*:[^\[\]\s]*:[^\[\]\s]*)"
)
_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)(?:([KMGTP])(?:iB)?|B)?", re.IGNORECASE)
_UNITS: Final = " KMGTP"
_MAX_SIZE: Final = 2**63 - 1
_MAX_KEY_ID: Final = 255
_MAX_SECRET: Final = 4096


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


def find_secret(file: str | None) -> str | None:
    """The secret from `file`, else XFER_SECRET, else the user's own secret file.

    None when there is none of them. LocalError for a file that can't be read,
    or that others can read.
    """
    if file is not None:
        return read_secret(file)
    if secret := os.environ.get(SECRET_VARIABLE):
        return secret
    own = default_secret_file()
    return read_secret(own) if os.path.lexists(own) else None


def find_key_id(option: str | None) -> str:
    """The key id of `--key-id`, else of XFER_KEY_ID, else the one that a single secret has."""
    key_id = option or os.environ.get(KEY_ID_VARIABLE) or DEFAULT_KEY_ID
    if len(key_id) > _MAX_KEY_ID:
        raise UsageError(f"a key id has at most {_MAX_KEY_ID} characters")
    return key_id


def read_secret(file: str) -> str:
    """The first line of a file that nobody but its owner can read."""
    with private_files.reading(file, "the secret") as opened:
        return opened.readline(_MAX_SECRET).rstrip("\r\n")


def create_secret(file: str) -> str:
    """Write a new secret to `file`, for its owner's eyes only; never over another one."""
    secret = generate_secret()
    private_files.create(file, secret + "\n")
    return secret
