"""Running digests: which kinds there are, and a fresh one of each."""

import hashlib
from functools import cache
from importlib.util import find_spec
from typing import Final, Protocol

from xfer.errors import Code, Refused

DEFAULT: Final = "md5"
Buffer = bytes | bytearray | memoryview


class Digest(Protocol):
    """The digest of everything that `update` was given so far."""

    def update(self, data: Buffer, /) -> object: ...

    def hexdigest(self) -> str: ...


@cache
def available() -> tuple[str, ...]:
    """The algorithms that this side can compute."""
    return ("md5", "blake3") if find_spec("blake3") else ("md5",)


def new(algorithm: str) -> Digest:
    """A fresh digest. Refused (unsupported) when this side cannot compute it."""
    if algorithm == DEFAULT:
        return hashlib.md5(usedforsecurity=False)
    if algorithm in available():
        from blake3 import blake3  # noqa: PLC0415 (optional, and needed by few)

        return blake3()
    raise Refused(f"{algorithm} digests are not available here", code=Code.UNSUPPORTED)
