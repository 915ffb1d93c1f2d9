"""A local store, open, for the tests of its parts."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def mount(root: Path) -> Iterator[Callable[[str, str], Path]]:
    mounted: list[Path] = []

    def mount_memory(where: str, options: str) -> Path:
        path = root / where
        path.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "xfer-test", str(path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
        if done.returncode:
            pytest.skip(f"no mounting here: {done.stderr.strip()}")
        mounted.append(path)
        return path

    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    yield mount_memory
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=20)
