"""Local stores and what is in their directories, as the tests of storage/ look at them."""

import gc
import os
import stat
from pathlib import Path

from tests.support.stores import put
from xfer import names
from xfer.storage.contract import IfExists, Metadata
from xfer.storage.local.store import LocalStore

MTIME = 1_000_000_000_123_456_789
"""Nanoseconds; in 2001."""
KEPT = Metadata(0o755, MTIME)


def put_into(root: Path, if_exists: IfExists, name: str, content: bytes) -> str:
    """Commit one file to a store that is opened for it."""
    with LocalStore(str(root), if_exists) as store:
        writer = store.open_writer("default")
        try:
            return put(writer, name, content)
        finally:
            writer.close()


def versions(root: Path, name: str) -> list[Path]:
    return sorted((root / ".xfer/versions" / name).glob("*"))


def partials(root: Path) -> list[str]:
    return os.listdir(root / ".xfer/partials")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def read_at(root: Path, name: str) -> bytes:
    """The content of a name that is too long for one path."""
    *parents, last = names.to_bytes(name).split(b"/")
    directory = os.open(root, os.O_RDONLY)
    for component in parents:
        below = os.open(component, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    descriptor = os.open(last, os.O_RDONLY, dir_fd=directory)
    os.close(directory)
    with open(descriptor, "rb") as opened:
        return opened.read()


def open_descriptors() -> int:
    gc.collect()  # what other tests left in circles
    return len(os.listdir("/proc/self/fd"))
