"""Running digests, and the thread that computes them beside the I/O.

Python's own md5 and blake3 let go of the interpreter while they work on a
large buffer, so one thread that hashes and one that moves bytes use two
processors. What that takes is loaded when the first of them starts: it brings
logging along, and a small file is sent sooner than that is loaded.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

from xfer.errors import Code, Refused

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

DEFAULT: Final = "md5"
Buffer = bytes | bytearray | memoryview
Item = TypeVar("Item")


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


class Beside:
    """One helper thread, started on first use, for work beside the caller's own."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def update(self, digest: Digest, data: Buffer) -> "Future[object]":
        """Feed `data` to `digest`; it must stay as it is until the future is done."""
        return self._started().submit(digest.update, data)

    def submit(self, work: Callable[..., Item], *arguments: object) -> "Future[Item]":
        """Do `work(*arguments)` in the helper thread."""
        return self._started().submit(work, *arguments)

    def ahead(self, items: Iterator[Item]) -> Generator[Item, None, None]:
        """`items`, each made while the consumer still works on the one before.

        Closing the generator waits until none is being made any more.
        """
        pool = self._started()
        upcoming = pool.submit(next, items, None)
        try:
            while (item := upcoming.result()) is not None:
                upcoming = pool.submit(next, items, None)
                yield item
        finally:
            wait_for(upcoming)

    def _started(self) -> "ThreadPoolExecutor":
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (slow, see above)

            self._pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
        return self._pool


def wait_for(future: "Future[Item]", seconds: float | None = None) -> bool:
    """Wait until `future` is done, for up to so many seconds; whether it is."""
    from concurrent.futures import wait  # noqa: PLC0415 (loaded by then)

    return bool(wait([future], seconds).done)
