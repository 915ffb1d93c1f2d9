"""What the tests of whole processes share: one receiver a module, files of each test's own."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Site, receiving


def pytest_xdist_auto_num_workers() -> int:
    """More than there are processors: most of what a test does is to wait for other processes."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell starts background jobs with SIGINT ignored, and processes inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A receiver that the tests of a module share; none of them may disturb it."""
    with receiving(tmp_path_factory.mktemp("nas")) as site:
        yield site
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A small file whose name no other test uses."""
    file = tmp_path / f"{tmp_path.name}.txt"
    file.write_bytes(b"what matters\n")
    return file
