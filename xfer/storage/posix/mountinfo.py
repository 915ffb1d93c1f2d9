"""How the file system of an open directory was mounted, and what it stores on. See proc(5)."""

import contextlib
import os
import re
from typing import Final

from msgspec import Struct

_OVERLAY: Final = "overlay"
_UPPER: Final = "upperdir="
MERGERFS: Final = "fuse.mergerfs"
_CONTROL: Final = "/.mergerfs"
"""A file that is in each mergerfs, and in no directory; its attributes say what is merged."""
_BRANCHES: Final = b"user.mergerfs.branches"
_PASSING_ON: Final = ("fuse", "fuse.bindfs")


class Mount(Struct, frozen=True):
    """One line: where it is mounted, its kind, its source, and its options."""

    point: str
    kind: str
    source: str
    options: frozenset[str]


def mount_of(directory: int) -> Mount | None:
    """The mount that an open directory is in; None where that can't be told."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/self/fdinfo/{directory}", encoding="ascii") as information:
            number = re.search(r"^mnt_id:\s*(\d+)$", information.read(), re.MULTILINE)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                own, _, filed = line.partition(" - ")
                if number and own.split()[0] == number[1]:
                    kind, source, options = filed.split(" ", 2)  # the source may be empty
                    separate = frozenset(options.strip().split(","))
                    return Mount(_unescaped(own.split()[4]), kind, _unescaped(source), separate)
    return None


def directories_below(mount: Mount) -> list[str]:
    """The directories that it stores in. None for a disk, and where they are not told."""
    if mount.kind == _OVERLAY:
        uppers = (option for option in mount.options if option.startswith(_UPPER))
        return [_unescaped(option.removeprefix(_UPPER)) for option in uppers]
    if mount.kind == MERGERFS:
        with contextlib.suppress(OSError):
            branches = os.fsdecode(os.getxattr(mount.point + _CONTROL, _BRANCHES))
            return [branch.rpartition("=")[0] or branch for branch in branches.split(":")]
    if mount.kind in _PASSING_ON and os.path.isabs(mount.source) and os.path.isdir(mount.source):
        return [mount.source]
    return []


def stored_in(directory: int) -> list[str]:
    """The directories that the file system of an open directory stores in, as above."""
    mount = mount_of(directory)
    return directories_below(mount) if mount else []


def merged_directories(directory: int) -> list[str]:
    """Where an open directory of a mergerfs is: on each branch, though not all need have it.

    None where that is not told, as where a part of it is mounted elsewhere.
    """
    mount = mount_of(directory)
    path = os.readlink(f"/proc/self/fd/{directory}")
    if mount is None or not path.startswith(mount.point):
        return []
    below = path[len(mount.point) :].strip("/")
    return [os.path.join(branch, below) for branch in directories_below(mount)]


def _unescaped(text: str) -> str:
    """Spaces, commas and a few others are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
