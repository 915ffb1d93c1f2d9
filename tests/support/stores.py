"""Stores, as a receiver uses them."""

from collections.abc import Iterable, Sequence

from xfer.errors import Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import Item, Metadata, NewFile, StoreWriter


def new_file(
    writer: StoreWriter, name: str, content: bytes, metadata: Metadata | None = None
) -> NewFile:
    """A file that is complete, and not committed yet."""
    partial = writer.create_partial()
    partial.write(content)
    partial.finish(metadata or Metadata())
    return NewFile(name, partial)


def leave_partial(writer: StoreWriter, name: str, content: bytes) -> None:
    """What an interrupted session leaves of a file."""
    partial = writer.create_partial(name)
    partial.write(content)
    partial.keep()


def commit(writer: StoreWriter, items: Sequence[Item]) -> list[Outcome | Refused]:
    """A whole commit in this thread."""
    steps = writer.commit(items)
    while True:
        try:
            next(steps)()
        except StopIteration as end:
            return list(end.value)


def words(results: Iterable[Outcome | Refused]) -> list[str]:
    """Outcomes as receipts say them, refusals as their codes."""
    return [result.code if isinstance(result, Refused) else result.value for result in results]


def put(writer: StoreWriter, name: str, content: bytes, metadata: Metadata | None = None) -> str:
    """Commit one file by itself."""
    return words(commit(writer, [new_file(writer, name, content, metadata)]))[0]
