"""A listening socket: on what was asked for, or a sentence that says why not."""

import socket

import pytest

from xfer.errors import LocalError
from xfer.server.listen import listen


def can_connect(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def test_port_0_is_any_free_one_of_that_address_only() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert can_connect("127.0.0.1", port)
        assert not can_connect("127.0.0.2", port)


def test_without_an_address_all_are_listened_on() -> None:
    with listen("", 0) as listening:
        port = listening.getsockname()[1]
        assert can_connect("127.0.0.2", port)
        assert can_connect("::1", port) or listening.family is socket.AF_INET


def test_a_port_that_is_taken_and_an_address_that_is_not_here_are_local_errors() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(LocalError, match=rf"cannot listen on 127\.0\.0\.1, port {port}: "):
            listen("127.0.0.1", port)
    with pytest.raises(LocalError, match=r"cannot listen on 192\.0\.2\.1, port 0: "):
        listen("192.0.2.1", 0)
    with pytest.raises(LocalError, match="no such host"):
        listen("." * 300, 0)
