"""Receivers in the test's own process."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import xfer
from tests.support.processes import PATIENCE, SECRET, Site
from xfer.auth.keys import derive_key
from xfer.auth.opening import prove_to_receiver
from xfer.errors import XferError
from xfer.wire.channel import Channel


@contextlib.contextmanager
def serving(
    tmp_path: Path,
    if_exists: str = "version",
    limits: xfer.Limits | None = None,
    on_receipt: Callable[[xfer.Received], object] | None = None,
    access: str = "write",
) -> Iterator[tuple[xfer.Receiver, str]]:
    """A receiver that answers in a thread, and HOST:PORT to reach it at."""
    (tmp_path / "received").mkdir(exist_ok=True)
    with xfer.Receiver(
        str(tmp_path / "received"),
        secret=SECRET,
        bind="127.0.0.1",
        port=0,
        if_exists=if_exists,
        limits=limits,
        state_directory=str(tmp_path / "state"),
        on_receipt=on_receipt,
        access=access,
    ) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        yield receiver, "{}:{}".format(*receiver.address)
    thread.join(PATIENCE)
    assert not thread.is_alive()


WRONG = derive_key("xfer-key-" + 43 * "B")


def prove_wrongly(site: Site) -> str:
    """The code of the answer to a wrong proof; `lost` if there is none."""
    connected = socket.create_connection(("127.0.0.1", site.port))
    with contextlib.closing(Channel(connected, 10)) as channel, pytest.raises(XferError) as refused:
        prove_to_receiver(channel, WRONG, b"")
    return refused.value.code
