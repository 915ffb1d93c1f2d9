"""Stores, as a receiver uses them."""

from collections.abc import Iterable, Sequence

from xfer.errors import Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import Intake, Item, Metadata, NewFile


def new_file(
    intake: Intake, name: str, content: bytes, metadata: Metadata | None = None
) -> NewFile:
    """A file that is complete, and not committed yet."""
    partial = intake.create_partial()
    partial.write(content)
    partial.finish(metadata or Metadata())
    return NewFile(name, partial)


def commit(intake: Intake, items: Sequence[Item]) -> list[Outcome | Refused]:
    """A whole commit in this thread."""
    steps = intake.commit(items)
    while True:
        try:
            next(steps)()
        except StopIteration as end:
            return list(end.value)


def words(results: Iterable[Outcome | Refused]) -> list[str]:
    """Outcomes as receipts say them, refusals as their codes."""
    return [result.code if isinstance(result, Refused) else result.value for result in results]


def put(intake: Intake, name: str, content: bytes, metadata: Metadata | None = None) -> str:
    """Commit one file by itself."""
    return words(commit(intake, [new_file(intake, name, content, metadata)]))[0]
