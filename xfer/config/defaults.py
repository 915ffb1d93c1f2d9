"""Defaults of options, and times that both sides keep."""

from typing import Final

DEFAULT_PORT: Final = 9337
OPENING_SECONDS: Final = 30.0
"""Connecting, the TLS handshake and the opening together may take so long, on either side."""
RETRY_SECONDS: Final = 60.0
MAX_UNAUTHENTICATED: Final = 100
MAX_CONNECTIONS: Final = 256
