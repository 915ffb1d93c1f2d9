"""Which file system an open directory is on, and what its flushes can be relied on for.

Found out by cutting the power on each (see tests/end_to_end/test_power_cuts.py):
a system call that flushes on one file system does nothing on another.
"""

import contextlib
import os
import re
from typing import Final

from msgspec import Struct

_SYNCFS_REPORTS: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs"})
_SYNCFS_SINCE: Final = (5, 8)
"""Linux: before, syncfs(2) did not report failed writes of file content."""
_KNOWN: Final = _SYNCFS_REPORTS | {
    *("bcachefs", "exfat", "f2fs", "jfs", "msdos", "nfs", "nfs4", "overlay", "reiserfs", "vfat"),
    *("zfs", "fuseblk", "fuse", "fuse.bindfs", "fuse.mergerfs"),
}
"""What keeps what it was told to flush. bindfs is `fuse` to some kernels and libraries."""
_FUSE: Final = ("fuse", "virtiofs")
_REMOTE: Final = ("nfs", "nfs4")
_SECOND: Final = 10**9


class FileSystem(Struct, frozen=True):
    """Its kind and mount options as in /proc/self/mountinfo; empty where that can't be told."""

    kind: str = ""
    options: frozenset[str] = frozenset()

    @property
    def syncfs_reports_errors(self) -> bool:
        """Whether syncfs(2) flushes everything, and fails if anything could not be written.

        It reaches no FUSE daemon, and overlayfs does not pass on what failed below it.
        """
        return self.kind in _SYNCFS_REPORTS and _linux_version() >= _SYNCFS_SINCE

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
        if self.kind not in _KNOWN:
            return f"nothing is known of what {self.kind} keeps when the power fails"
        return ""


def file_system_of(directory: int) -> FileSystem:
    """The file system that an open directory is on."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        with open(f"/proc/self/fdinfo/{directory}", encoding="ascii") as information:
            mount = re.search(r"^mnt_id:\s*(\d+)$", information.read(), re.MULTILINE)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                own, _, filed = line.partition(" - ")
                if mount and own.split()[0] == mount[1]:
                    kind, _, options = filed.split(" ", 2)  # the source may be empty
                    return FileSystem(kind, frozenset(options.strip().split(",")))
    return FileSystem()


def _linux_version() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
