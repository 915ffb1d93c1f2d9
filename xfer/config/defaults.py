"""Defaults of options, and times that both sides keep."""

from typing import Final

DEFAULT_PORT: Final = 9337
RETRY_SECONDS: Final = 60.0
MAX_UNAUTHENTICATED: Final = 100
MAX_CONNECTIONS: Final = 256
