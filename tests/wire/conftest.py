"""Two connected channels, plain and over TLS."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.support.channels import Ends, Join, concurrently, joined, over_loopback
from xfer.auth.identity import Identity, client_context, load_identity
from xfer.system.stop import StopSignal


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return load_identity(str(tmp_path_factory.mktemp("state")))


@pytest.fixture(params=["socket pair", "loopback", "TLS"])
def join(request: pytest.FixtureRequest, identity: Identity) -> Join:
    """Makes two connected ends with a timeout in seconds."""

    @contextlib.contextmanager
    def make(timeout: float) -> Iterator[Ends]:
        plain = socket.socketpair if request.param == "socket pair" else over_loopback
        with joined(plain(), timeout) as (ours, theirs):
            if request.param == "TLS":
                concurrently(
                    lambda: ours.start_tls(client_context(), server_side=False),
                    lambda: theirs.start_tls(identity.context, server_side=True),
                )
            yield ours, theirs

    return make


@pytest.fixture
def ends(join: Join) -> Iterator[Ends]:
    with join(10.0) as both:
        yield both


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    with contextlib.closing(StopSignal()) as signal:
        yield signal
