"""What a key opens, what its holder may do there, and until when."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct, field

from xfer.auth.keys import Key
from xfer.errors import AuthenticationError, Code, Refused
from xfer.storage.contract import Access


class Expired(AuthenticationError):
    """The proof was right, but its key has expired."""


class Rights(StrEnum):
    """What the holder of a key may do. Nobody may delete.

    A sender has to ask what is there to skip and to resume, and so learns of it; one
    with DROP may add new names only, and learns nothing but which of its names are taken.
    """

    WRITE = "write"
    READ = "read"
    READ_WRITE = "read-write"
    DROP = "drop"

    def require_reading(self) -> None:
        """Refused (access) unless what is stored may be listed and taken back."""
        if self not in (Rights.READ, Rights.READ_WRITE):
            raise _denied("read what is stored", self, Rights.READ_WRITE)

    def require_writing(self) -> None:
        """Refused (access) unless something may be stored."""
        if self is Rights.READ:
            raise _denied("store anything", self, Rights.READ_WRITE)


def _denied(wish: str, rights: Rights, needed: Rights) -> Refused:
    return Refused(
        f"this key may not {wish}: its access is {rights}; the receiver's owner can allow it with "
        f'--access {needed}, or access = "{needed}" in the keys file',
        code=Code.ACCESS,
    )


class Grant(Struct, frozen=True):
    """The keys of one key id, and what they open, until `expires` (None: always)."""

    keys: tuple[Key, ...]
    access: Access = field(default_factory=Access)
    expires: datetime | None = None
    rights: Rights = Rights.WRITE

    def require_valid(self) -> None:
        """Raise Expired once `expires` has passed."""
        if self.expires and datetime.now(UTC) >= self.expires:
            raise Expired(f"this key expired at {self.expires:%Y-%m-%d %H:%M} UTC")


Grants = Callable[[], Mapping[str, Grant]]
"""Returns the grants in force, by key id. Called at each connection, in its thread."""
