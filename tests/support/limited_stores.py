"""Local stores with limits, and files that come near them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.stores import commit
from xfer.errors import Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import (
    Access,
    IfExists,
    Limits,
    Metadata,
    NewFile,
    StoreWriter,
)
from xfer.storage.local.store import LocalStore

SIZE = 1000


@contextlib.contextmanager
def limited(
    directory: Path, limits: Limits, *, if_exists: IfExists = IfExists.VERSION, access: str = ""
) -> Iterator[StoreWriter]:
    with (
        LocalStore(str(directory), if_exists, limits=limits) as store,
        contextlib.closing(store.open_writer("default", Access(access))) as writer,
    ):
        yield writer


def take(writer: StoreWriter, name: str, size: int = SIZE, fill: bytes = b"x") -> Outcome | Refused:
    """Have a whole file of so many bytes stored, as a session does it."""
    try:
        partial = writer.create_partial(name, size)
    except Refused as refused:
        return refused
    partial.write(fill * size)
    partial.finish(Metadata())
    return commit(writer, [NewFile(name, partial)])[0]


def code(outcome: Outcome | Refused) -> str:
    return outcome.code if isinstance(outcome, Refused) else outcome


def code_of_next(directory: Path, quota: int, size: int) -> str:
    with limited(directory, Limits(quota=quota)) as writer:
        return code(take(writer, "next", size))
