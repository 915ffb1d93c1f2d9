"""What the tests of whole processes share: one receiver a module, files of each test's own."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Site, receiving
from xfer.auth.secret_files import SECRET_VARIABLE
from xfer.storage.contract import StoreWriter
from xfer.storage.local.store import LocalStore


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
def root(tmp_path: Path) -> Path:
    """A directory for a store."""
    directory = tmp_path / "dir"
    directory.mkdir()
    return directory


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    with LocalStore(str(root)) as opened:
        yield opened


@pytest.fixture
def writer(store: LocalStore) -> Iterator[StoreWriter]:
    opened = store.open_writer("default")
    yield opened
    opened.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user who has nothing yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", SECRET_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file with a secret that nobody else can read."""
    file = tmp_path / "secret"
    file.write_text("words of a secret\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A small file whose name no other test uses."""
    file = tmp_path / f"{tmp_path.name}.txt"
    file.write_bytes(b"what matters\n")
    return file
