"""Which file system an open directory is on, and what its flushes can be relied on for.

Found out by cutting the power on each (see tests/end_to_end/test_power_cuts.py):
a system call that flushes on one file system does nothing on another.
"""

import contextlib
import os
import re
from typing import Final

from msgspec import Struct

from xfer.storage.posix.mountinfo import MERGERFS, Mount, directories_below, mount_of

_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_SYNCFS_REPORTS: Final = _MEMORY | {"ext2", "ext3", "ext4", "xfs", "btrfs"}
_SYNCFS_SINCE: Final = (5, 8)
"""Linux: before, syncfs(2) did not report failed writes of file content."""
_KNOWN: Final = _SYNCFS_REPORTS | {
    *("bcachefs", "exfat", "f2fs", "jfs", "msdos", "nfs", "nfs4", "overlay", "reiserfs", "vfat"),
    *("zfs", "fuse.bindfs", "fuse.mergerfs"),
}
"""What keeps what it was told to flush. Tried by cutting the power: ext4, xfs, btrfs, overlay,
bindfs and mergerfs; the others are trusted to do what they say. No other FUSE daemon is."""
_BINDFS: Final = "fuse"
"""To some libraries, bindfs has no other name. It has the directory that it shows for a source."""
_FUSE: Final = ("fuse", "virtiofs")
_MOST_BELOW: Final = 8
"""File systems that store on each other."""
_REMOTE: Final = ("nfs", "nfs4")
_SECOND: Final = 10**9


class FileSystem(Struct, frozen=True):
    """Its kind and mount options as in /proc/self/mountinfo; empty where that can't be told.

    `below` are those that it stores on, as far as they can be seen from here: `all_below`
    says whether all are.
    """

    kind: str = ""
    options: frozenset[str] = frozenset()
    below: tuple["FileSystem", ...] = ()
    all_below: bool = True

    @property
    def syncfs_reports_errors(self) -> bool:
        """Whether syncfs(2) flushes everything, and fails if anything could not be written.

        It reaches no FUSE daemon, and overlayfs does not pass on what failed below it.
        """
        return self.kind in _SYNCFS_REPORTS and _linux_version() >= _SYNCFS_SINCE

    @property
    def tells_errors(self) -> bool:
        """Whether syncfs(2) of it and then of what it stores on, down to the disks, does so."""
        if self.syncfs_reports_errors:
            return True
        return bool(self.below) and self.all_below and all(one.tells_errors for one in self.below)

    @property
    def flushes_names_with_directories(self) -> bool:
        """Whether fsync(2) of a directory flushes the names in it: not through FUSE daemons."""
        return not self.kind.startswith(_FUSE)

    @property
    def stale_ns(self) -> int:
        """For so long, in nanoseconds, the time of a file's last change may be an older one.

        The kernel asks a FUSE daemon again after a second, by default, and a server after one
        minute at most.
        """
        if self.kind.startswith(_REMOTE):
            return 60 * _SECOND
        return 2 * _SECOND if self.kind.startswith(_FUSE) else 0

    @property
    def merges(self) -> bool:
        """Whether a directory is in several others below, each on a file system of its own."""
        return self.kind == MERGERFS

    @property
    def caches_below(self) -> bool:
        """Whether dropping the kernel's pages of a file leaves those of another file below it."""
        return self.kind.startswith(_FUSE)

    @property
    def flushes_links_with_directories(self) -> bool:
        """Whether fsync(2) of a directory flushes what a symbolic link in it holds, too.

        Not on ext2, nor on ext4 without a journal, which can't be told from the mount.
        """
        return not self.kind.startswith("ext")

    @property
    def doubt(self) -> str:
        """Why a flush may be in vain here; empty where there is no reason to think so."""
        if not self.options.isdisjoint(("volatile", "fsync=volatile")):
            return "the overlay was mounted with volatile, and flushes nothing"
        if not self.options.isdisjoint(("nobarrier", "barrier=0", "fsync_mode=nobarrier")):
            return "it was mounted without barriers, and does not flush the disk's own memory"
        if not self.kind:
            return "its file system cannot be told"
        if self.kind in _MEMORY:
            return f"{self.kind} is in memory, and keeps nothing when the power fails"
        if self.kind not in _KNOWN and not (self.kind == _BINDFS and self.below):
            return f"nothing is known of what {self.kind} keeps when the power fails"
        return next((f"below {self.kind}, {one.doubt}" for one in self.below if one.doubt), "")


def file_system_of(directory: int) -> FileSystem:
    """The file system that an open directory is on."""
    mount = mount_of(directory)
    return _file_system(mount, _MOST_BELOW) if mount else FileSystem()


def _file_system(mount: Mount, levels: int) -> FileSystem:
    paths = directories_below(mount) if levels else []
    below = []
    for path in paths:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                lower = mount_of(descriptor)
            finally:
                os.close(descriptor)
            below.append(_file_system(lower, levels - 1) if lower else FileSystem())
    return FileSystem(mount.kind, mount.options, tuple(below), len(below) == len(paths))


def _linux_version() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
