"""Which machine wrote a stored file: remembered with the file, in an extended attribute.

    getfattr -n user.xfer.host FILE

It goes where the file goes, costs no room where the inode has some, needs no
list that grows with the files, and may be removed at any time: then the machine
is not known. So it is on a file system that keeps no such attributes (an older
tmpfs, NFS before 4.2). See xattr(7).
"""

import os
from typing import Final

_ATTRIBUTE: Final = b"user.xfer.host"
_MOST: Final = 48
"""Bytes. With more, ext4 would give each file a block of its own for them."""


def bounded(host: str) -> bytes:
    """The name of a machine as it is remembered."""
    return host.encode("utf-8", "replace")[:_MOST]


def remember(descriptor: int, host: bytes) -> None:
    """Remember which machine wrote an open file, if the file system can."""
    try:  # noqa: SIM105 (for every small file, a context takes its time)
        os.setxattr(descriptor, _ATTRIBUTE, host)
    except OSError:
        pass


def other_than(host: bytes, descriptor: int, unmarked: bytes) -> str:
    """The machine that wrote an open file, if that is known and not `host`; else empty.

    `unmarked` wrote it if it is not remembered with the file.
    """
    try:
        written_by = os.getxattr(descriptor, _ATTRIBUTE)[:_MOST]
    except OSError:
        written_by = unmarked
    return "" if written_by == host else written_by.decode("utf-8", "replace")
