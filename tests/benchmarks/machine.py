"""The machine that a benchmark ran on, in words."""

import os
import platform
import re
from pathlib import Path


def describe(directory: Path) -> str:
    """Processor, memory, kernel, the file system of `directory`, Python, and what else ran."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return ", ".join(
        (
            f"{os.cpu_count()} x {_processor()}",
            f"{gib:.0f} GiB",
            f"{platform.system()} {platform.release()}",
            _file_system(directory),
            f"Python {platform.python_version()}",
            f"load average {os.getloadavg()[0]:.1f} at the start",
        )
    )


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _file_system(directory: Path) -> str:
    """The type of the file system at the deepest mount point above `directory`."""
    mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    above = [(point, kind) for point, kind in mounts if directory.resolve().is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]), default=("", "unknown file system"))[1]
