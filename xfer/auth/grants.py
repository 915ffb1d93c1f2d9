"""What a key opens, and until when."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from msgspec import Struct, field

from xfer.auth.keys import Key
from xfer.errors import AuthenticationError
from xfer.storage.contract import Access


class Expired(AuthenticationError):
    """The proof was right, but its key has expired."""


class Grant(Struct, frozen=True):
    """The keys of one key id, and what they open, until `expires` (None: always)."""

    keys: tuple[Key, ...]
    access: Access = field(default_factory=Access)
    expires: datetime | None = None

    def require_valid(self) -> None:
        """Raise Expired once `expires` has passed."""
        if self.expires and datetime.now(UTC) >= self.expires:
            raise Expired(f"this key expired at {self.expires:%Y-%m-%d %H:%M} UTC")


Grants = Callable[[], Mapping[str, Grant]]
"""Returns the grants in force, by key id. Called at each connection, in its thread."""
