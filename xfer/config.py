"""Environment and files, as plain values: where things are kept, and the secret."""

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from typing import Final

from xfer.auth import generate_secret
from xfer.errors import LocalError, UsageError

DEFAULT_PORT: Final = 9337
SECRET_VARIABLE: Final = "XFER_SECRET"  # noqa: S105 (where it is, not what it is)
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]\s]+)\]|(?P<host>[^\[\]:\s]+))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<ipv6>[^\[\]\s]*:[^\[\]\s]*:[^\[\]\s]*)"
)
_READABLE_BY_OTHERS: Final = 0o077
_MAX_SECRET: Final = 4096


@dataclass(frozen=True, slots=True)
class Address:
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


def read_secret(file: str) -> str:
    """The first line of a file that nobody but its owner can read."""
    try:
        with open(file, encoding="utf-8") as opened:
            status = os.fstat(opened.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & _READABLE_BY_OTHERS:
                raise LocalError(f"others can read the secret in {file}: chmod 600 {file}")
            return opened.readline(_MAX_SECRET).rstrip("\r\n")
    except OSError as error:
        raise LocalError(f"cannot read the secret in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LocalError(f"the secret in {file} is not text") from error


def create_secret(file: str) -> str:
    """Write a new secret to `file`, for its owner's eyes only; never over another one."""
    secret = generate_secret()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if parent := os.path.dirname(file):
            os.makedirs(parent, mode=0o700, exist_ok=True)
        descriptor = os.open(file, flags, 0o600)
    except FileExistsError as error:
        raise LocalError(f"{file} exists and is not overwritten") from error
    except OSError as error:
        raise LocalError(f"cannot write {file}: {error.strerror}") from error
    try:
        with open(descriptor, "w", encoding="ascii") as opened:
            opened.write(secret + "\n")
            opened.flush()
            os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(file)
        raise LocalError(f"cannot write {file}: {error.strerror}") from error
    return secret
