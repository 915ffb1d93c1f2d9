"""The machines that have sent into a store, in an extended attribute of its DIR/.xfer.

    getfattr -n user.xfer.hosts DIR/.xfer

Only where there are two of them is it worth its time, 2 µs a file, to remember
with each file which one wrote it (see `posix.written_by`). What one machine wrote
while it was the only one is not known to be its own: it may be another program's.

The list is bounded, and may be removed at any time: it grows again.
"""

import os
from typing import Final

_ATTRIBUTE: Final = b"user.xfer.hosts"
_MOST: Final = 1024
"""Bytes. With so many machines it does not matter any more whether one is new."""


def note_host(state: int, host: bytes) -> bool:
    """Note that a machine sends into the store of this state directory.

    Whether others do, too; False where the file system keeps no such attributes. Any
    thread or process may call it: of two that do at once, one may have to come again.
    """
    line = host.replace(b"\n", b" ")
    try:
        listed = os.getxattr(state, _ATTRIBUTE)
    except OSError:
        listed = b""
    known = listed.splitlines()
    if line not in known and len(listed) < _MOST:
        try:
            os.setxattr(state, _ATTRIBUTE, listed + line + b"\n")
        except OSError:
            return False
    return any(other != line for other in known)
