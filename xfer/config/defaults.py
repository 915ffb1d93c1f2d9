"""Defaults of options, and times that both sides keep."""

from typing import Final

DEFAULT_PORT: Final = 9337
OPENING_SECONDS: Final = 30.0
"""Connecting, the TLS handshake and the opening together may take so long, on either side."""
RETRY_SECONDS: Final = 60.0
"""For so long a receiver is tried that has never let this side in"""
RETRY_TERMINAL_SECONDS: Final = 10.0
"""where a person waits for it"""
RETRY_REACHED_SECONDS: Final = 900.0
"""and one that has: as long as TCP holds on to a dead line, with Linux's defaults."""
MAX_UNAUTHENTICATED: Final = 100
MAX_CONNECTIONS: Final = 256
