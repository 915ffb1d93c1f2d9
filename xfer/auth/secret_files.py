"""Where a secret comes from, and the key id that goes with it: file, environment, usual place."""

import os
from typing import Final

from xfer.auth.keys import DEFAULT_KEY_ID, generate_secret
from xfer.config.locations import default_secret_file
from xfer.errors import LocalError, UsageError
from xfer.system import private_files

SECRET_VARIABLE: Final = "XFER_SECRET"  # noqa: S105 (where it is, not what it is)
KEY_ID_VARIABLE: Final = "XFER_KEY_ID"
_MAX_KEY_ID: Final = 255
_MAX_SECRET: Final = 4096


def find_secret(file: str | os.PathLike[str] | None = None) -> str | None:
    """The secret from `file`, else XFER_SECRET, else the user's own secret file.

    None when there is none of them. LocalError for a file that can't be read,
    or that others can read.
    """
    if file is not None:
        return read_secret(os.fspath(file))
    if secret := os.environ.get(SECRET_VARIABLE):
        return secret
    own = default_secret_file()
    return read_secret(own) if os.path.lexists(own) else None


def no_secret() -> LocalError:
    """What a sender is told when `find_secret` has found none."""
    return LocalError(
        f"no secret: copy the receiver's to {default_secret_file()} (chmod 600), "
        f"or set {SECRET_VARIABLE}"
    )


def find_key_id(option: str | None) -> str:
    """The key id of `--key-id`, else of XFER_KEY_ID, else the one that a single secret has."""
    key_id = option or os.environ.get(KEY_ID_VARIABLE) or DEFAULT_KEY_ID
    if len(key_id) > _MAX_KEY_ID:
        raise UsageError(f"a key id has at most {_MAX_KEY_ID} characters")
    return key_id


def read_secret(file: str) -> str:
    """The first line of a private file, see `private_files.reading`."""
    with private_files.reading(file, "the secret") as opened:
        return opened.readline(_MAX_SECRET).rstrip("\r\n")


def create_secret(file: str) -> str:
    """Write a new secret to `file`, mode 600, and return it. LocalError when the file exists."""
    secret = generate_secret()
    store_secret(file, secret)
    return secret


def store_secret(file: str, secret: str) -> None:
    """Write `secret` to `file`, mode 600. LocalError when the file exists."""
    private_files.create(file, secret + "\n")
