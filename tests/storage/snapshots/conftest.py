"""DIR/.xfer, as a receiver makes it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def state_path(root: Path) -> Path:
    path = root / ".xfer"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def state(state_path: Path) -> Iterator[int]:
    """The open directory."""
    descriptor = os.open(state_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)
