"""Reading what is to be sent, and what is open meanwhile."""

import gc
import os
from pathlib import Path

from xfer.source.readers import Source
from xfer.source.tree import Entry, walk


def read(source: Source, size: int = 64) -> bytes:
    """Everything, `size` bytes at a time."""
    content = bytearray()
    view = memoryview(bytearray(size))
    with source:
        while True:
            content += view[: source.read_into(view)]
            if source.is_at_end():
                return bytes(content)


def open_descriptors() -> int:
    gc.collect()  # what an earlier test had open may be in a circle with its exception
    return len(os.listdir("/proc/self/fd"))


def file_entry(path: Path) -> Entry:
    (entry,) = walk([str(path)])
    assert isinstance(entry, Entry)
    return entry
