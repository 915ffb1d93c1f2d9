"""Running digests: which algorithms there are, and a new digest of each."""

import hashlib
from functools import cache
from importlib.util import find_spec
from typing import Final, Protocol

from xfer.errors import Code, Refused

DEFAULT: Final = "md5"
Buffer = bytes | bytearray | memoryview


class Digest(Protocol):
    """The digest of all bytes that `update` was given so far. One thread at a time uses it."""

    def update(self, data: Buffer, /) -> object: ...

    def hexdigest(self) -> str: ...


@cache
def available() -> tuple[str, ...]:
    """The algorithms that this side can compute. It does not load them."""
    return ("md5", "blake3") if find_spec("blake3") else ("md5",)


def new(algorithm: str) -> Digest:
    """A digest of no bytes yet. Refused (unsupported) when this side can't compute it."""
    if algorithm == DEFAULT:
        return hashlib.md5(usedforsecurity=False)
    if algorithm in available():
        from blake3 import blake3  # noqa: PLC0415 (optional, and needed by few)

        return blake3()
    raise Refused(f"{algorithm} digests are not available here", code=Code.UNSUPPORTED)
