"""Connecting: to a receiver that proves itself, or an error that says what is wrong."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import KEY
from tests.support.receivers import WRONG, serving
from xfer.client.connect import Target, connect
from xfer.client.send import target_at
from xfer.config.addresses import format_address, parse_address
from xfer.errors import AuthenticationError, ConnectionLost, PeerTimeout, Refused


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """The port of somebody who is no receiver, and says `answer`, or nothing for long."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connected:
                if answer:
                    connected.sendall(answer)
                connected.recv(65536)
                ended.wait(10)

        ended = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        ended.set()
    thread.join(10)


def target_of(host: str, timeout: float = 60.0) -> Target:
    address = parse_address(host)
    return Target(address.host, address.port, KEY, timeout)


def test_a_receiver_with_the_secret_is_connected_to_over_tls(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, host):
        channel = connect(target_of(host), "md5")
        assert channel.is_encrypted
        assert channel.peer_flushes
        channel.close()


def test_another_secret_is_an_authentication_error(tmp_path: Path) -> None:
    with serving(tmp_path) as (receiver, _), pytest.raises(AuthenticationError):
        connect(Target(*receiver.address, WRONG), "md5")


def test_a_digest_that_the_receiver_does_not_know_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, host), pytest.raises(Refused) as refused:
        connect(target_of(host), "sha3")
    assert (refused.value.code, refused.value.message) == (
        "unsupported",
        "the receiver cannot check sha3 digests",
    )


def test_what_is_no_receiver_is_said_to_be_none() -> None:
    with (
        listening(b"220 mail.example ESMTP\r\n") as port,
        pytest.raises(AuthenticationError, match="does not open like a receiver") as wrong,
    ):
        connect(target_of(f"127.0.0.1:{port}"), "md5")
    assert "--insecure-plaintext" in wrong.value.message
    assert not wrong.value.retryable


def test_a_silent_peer_is_given_up_after_the_timeout() -> None:
    began = time.monotonic()
    with listening(None) as port, pytest.raises(PeerTimeout):
        connect(target_of(f"127.0.0.1:{port}", timeout=0.3), "md5")
    assert 0.3 <= time.monotonic() - began < 5


def test_where_nobody_listens_trying_again_can_help() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = "{}:{}".format(*taken.getsockname())
    with pytest.raises(ConnectionLost) as lost:
        connect(target_of(host), "md5")
    assert lost.value.retryable
    assert lost.value.message.startswith(f"no receiver answers at {host}: ")


@pytest.mark.parametrize("host", ["nas..local", "host.invalid"])
def test_an_unknown_host_is_said_as_such(host: str) -> None:
    with pytest.raises(ConnectionLost, match=f"unknown host {host}"):
        connect(target_of(host), "md5")


@pytest.mark.parametrize(
    "host", ["nas:9337", "192.0.2.7:1", "[2001:db8::1]:9000", "[fe80::1%eth0]:9337"]
)
def test_a_target_is_shown_as_it_can_be_typed(host: str) -> None:
    address = parse_address(host)
    assert str(target_of(host)) == format_address(address.host, address.port) == host


@pytest.mark.parametrize(("bwlimit", "is_limited"), [(0, False), (1000, True)])
def test_all_connections_to_a_target_share_one_limit(bwlimit: int, is_limited: bool) -> None:
    target = target_at(
        parse_address("nas"),
        KEY,
        key_id="laptop",
        timeout=5.0,
        bwlimit=bwlimit,
        insecure_plaintext=True,
    )
    assert (target.bandwidth is not None) == is_limited
    assert (str(target), target.key_id, target.timeout, target.plaintext) == (
        "nas:9337",
        "laptop",
        5.0,
        True,
    )
