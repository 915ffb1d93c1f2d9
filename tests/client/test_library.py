"""`xfer.send` and `xfer.Receiver` in one process, as a program would use them."""

import contextlib
import gc
import os
import socket
import threading
from pathlib import Path

import pytest

import xfer
from tests.support.processes import MIB, SECRET, wait_until
from tests.support.receivers import serving


def test_send_returns_a_receipt_for_everything(tmp_path: Path, document: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(bytes(MIB + 1))
    (tree / "link").symlink_to("large")
    with serving(tmp_path) as (_, host):
        receipts = xfer.send([str(document), str(tree)], host, secret=SECRET, checksum="blake3")
        again = xfer.send([str(document)], host, secret=SECRET)
    assert [(r.name, r.kind.value, r.size, r.outcome, r.error) for r in receipts] == [
        (document.name, "file", 13, "stored", None),
        ("tree/large", "file", MIB + 1, "stored", None),
        ("tree/link", "symlink", 0, "stored", None),
        ("tree", "directory", 0, "stored", None),
    ]
    assert [(r.algorithm, len(r.digest)) for r in receipts] == 2 * [("blake3", 64)] + 2 * [("", 0)]
    assert [(r.outcome, r.digest) for r in again] == [("unchanged", "")]  # not read


def test_what_went_only_in_part_is_incomplete(tmp_path: Path, document: Path) -> None:
    missing = tmp_path / "missing"
    with serving(tmp_path) as (_, host), pytest.raises(xfer.Incomplete) as incomplete:
        xfer.send([str(missing), str(document)], host, secret=SECRET)
    assert [receipt.name for receipt in incomplete.value.receipts] == [document.name]
    (failure,) = incomplete.value.failures
    assert (failure.name, type(failure.error)) == ("missing", xfer.LocalError)
    assert incomplete.value.message == "1 of 2 were not sent"


def test_a_single_refused_file_raises_its_refusal(tmp_path: Path, document: Path) -> None:
    with serving(tmp_path, if_exists="refuse") as (_, host):
        xfer.send([str(document)], host, secret=SECRET)
        document.write_bytes(b"changed")
        with pytest.raises(xfer.Refused) as refused:
            xfer.send([str(document)], host, secret=SECRET)
    assert (refused.value.code, refused.value.retryable) == ("exists", False)


def test_a_wrong_secret_raises_an_authentication_error(tmp_path: Path, document: Path) -> None:
    with serving(tmp_path) as (_, host), pytest.raises(xfer.AuthenticationError):
        xfer.send([str(document)], host, secret=xfer.generate_secret())


def test_leaving_the_context_stops_the_receiver(tmp_path: Path, document: Path) -> None:
    with serving(tmp_path) as (receiver, host):
        listening_at = receiver.address
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(listening_at)
    with pytest.raises(xfer.ConnectionLost):
        xfer.send([str(document)], host, secret=SECRET, retry_for=0)


def test_a_receiver_that_never_served_can_be_left(tmp_path: Path) -> None:
    before = threading.active_count()
    with xfer.Receiver(
        str(tmp_path), secret=SECRET, bind="127.0.0.1", port=0, insecure_plaintext=True
    ) as receiver:
        pass
    receiver.serve_forever()  # a thread that is late finds nothing to do
    wait_until(lambda: threading.active_count() == before)


def test_nothing_stays_open(tmp_path: Path, document: Path) -> None:
    def session() -> None:
        with serving(tmp_path) as (_, host):
            xfer.send([str(document), str(tmp_path / "state")], host, secret=SECRET)
            with pytest.raises(xfer.AuthenticationError):
                xfer.send([str(document)], host, secret=xfer.generate_secret())

    session()  # what is opened once stays open: syncfs, random numbers
    gc.collect()
    before = open_descriptors()
    session()
    wait_until(lambda: open_descriptors() == before)


def open_descriptors() -> list[str]:
    """Where every descriptor of this process leads; without numbers, which are reused."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}").partition(":")[0])
    return sorted(path for path in found if not path.startswith("/proc"))


def test_a_receiver_that_cannot_start_leaves_nothing_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = open_descriptors()
        for directory, port in ((tmp_path, taken.getsockname()[1]), (tmp_path / "missing", 0)):
            with pytest.raises(xfer.LocalError):
                xfer.Receiver(
                    str(directory),
                    secret=SECRET,
                    bind="127.0.0.1",
                    port=port,
                    insecure_plaintext=True,
                )
        assert open_descriptors() == before


def test_what_is_no_file_in_a_tree_has_no_receipt_and_is_no_failure(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "fifo")
    with serving(tmp_path) as (_, host):
        receipts = xfer.send([str(tree)], host, secret=SECRET)
    assert [receipt.name for receipt in receipts] == ["tree"]
