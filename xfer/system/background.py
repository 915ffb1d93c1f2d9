"""One helper thread, for hashing and other work beside the caller's own.

Python's md5 and blake3 release the interpreter's lock while they work on a large
buffer, so one thread that hashes and one that moves bytes use two processors.

`concurrent.futures` is imported when the first helper thread starts: it imports
logging, and both take longer than sending a small file, which needs no helper.
"""

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Self, TypeVar

from xfer.digests import Buffer, Digest

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


Value = TypeVar("Value")


class BackgroundThread:
    """One helper thread, started on first use. It does one work after the other, in order.

    All methods are for the thread that made it: nothing but the pool, which has
    its own lock, is shared with the helper thread.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None  # None until the first use

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Have the thread end after its present work, without waiting for it; drop the rest."""
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def update(self, digest: Digest, data: Buffer) -> "Future[object]":
        """Feed `data` to `digest`; it must stay as it is until the future is done."""
        return self._started().submit(digest.update, data)

    def submit(self, work: Callable[..., Value], *arguments: object) -> "Future[Value]":
        """Do `work(*arguments)` in the helper thread; the future has what it returns or raises."""
        return self._started().submit(work, *arguments)

    def prefetch(self, items: Iterator[Value]) -> Generator[Value, None, None]:
        """`items`, none of them None, each made while the caller works on the one before.

        `items` runs in the helper thread; what it raises is raised here. Closing
        the generator waits until no item is being made any more.
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

            self._pool = ThreadPoolExecutor(1, thread_name_prefix="background")
        return self._pool


def load() -> None:
    """Import what helper threads need. A server may have no descriptor left when one starts."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: F401, PLC0415


def wait_for(future: "Future[Value]", seconds: float | None = None) -> bool:
    """Wait until `future` is done, for up to so many seconds; whether it is."""
    from concurrent.futures import wait  # noqa: PLC0415 (loaded by then)

    return bool(wait([future], seconds).done)
