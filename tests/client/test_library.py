"""`xfer.send` and `xfer.Receiver` in one process, as a program would use them."""

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_a_path_may_be_one_or_several_and_of_any_kind(
    tmp_path: Path, document: Path, kind: Callable[[Path], Any]
) -> None:
    with serving(tmp_path) as (_, host):
        (one,) = xfer.send(kind(document), host, secret=SECRET)
        (other,) = xfer.send(iter([kind(document)]), host, secret=SECRET)
    assert (one.name, one.outcome) == (other.name, "stored") == (document.name, "stored")
    assert other.outcome == "unchanged"


def test_a_path_object_is_never_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "-").write_bytes(b"a file's")
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path) as (_, host):
        (receipt,) = xfer.send(Path("-"), host, secret=SECRET)
    assert (receipt.name, receipt.size) == ("-", 8)


def test_unchanged_files_have_a_digest_only_if_contents_were_compared(
    tmp_path: Path, document: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(3 * MIB))
    with serving(tmp_path) as (_, host):
        first = xfer.send([document, large], host, secret=SECRET)
        unread = xfer.send([document, large], host, secret=SECRET)
        for connections in (1, 2):
            read = xfer.send(
                [document, large], host, secret=SECRET, checksum_all=True, connections=connections
            )
            assert {r.outcome for r in read} == {"unchanged"}
            assert contents(read) == contents(first)
    assert contents(unread) == {(r.name, r.size, "", "") for r in first}  # nobody has read it


def contents(receipts: list[xfer.Result]) -> set[tuple[str, int, str, str]]:
    return {(r.name, r.size, r.algorithm, r.digest) for r in receipts}


@pytest.mark.parametrize("connections", [1, 3])
def test_progress_is_told_to_a_function(tmp_path: Path, connections: int) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(5):
        (tree / f"file{number}").write_bytes(bytes(MIB + number))
    told: list[xfer.SendProgress] = []
    with serving(tmp_path) as (_, host):
        for _ in range(2):
            xfer.send(tree, host, secret=SECRET, progress=told.append, connections=connections)
    size = 5 * MIB + 10
    first = next(i for i, now in enumerate(told) if now.finished == 6)
    assert (told[first].done, told[first].sent, told[first].failed) == (size, size, 0)
    assert (told[-1].done, told[-1].sent, told[-1].finished) == (size, 0, 6)  # all was there
    assert {now.name for now in told} >= {"tree", "tree/file0", "tree/file4"}


def test_progress_is_told_to_an_observer(tmp_path: Path, document: Path) -> None:
    class Watch(xfer.Observer):
        def __init__(self) -> None:
            self.sizes: list[int] = []
            self.results: list[xfer.Result] = []

        def sent(self, size: int) -> None:
            self.sizes.append(size)

        def finished(self, result: xfer.Result) -> None:
            self.results.append(result)

    watch = Watch()
    with serving(tmp_path) as (_, host):
        receipts = xfer.send(document, host, secret=SECRET, progress=watch)
    assert (watch.sizes, watch.results) == ([13], receipts)
    with pytest.raises(xfer.UsageError, match="progress"):
        xfer.send(document, host, secret=SECRET, progress="quiet")  # type: ignore[arg-type]


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("at", ["sending", "sent", "finished"])
def test_what_progress_raises_ends_the_send_and_is_raised(
    tmp_path: Path, at: str, connections: int
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(5):
        (tree / f"file{number}").write_bytes(bytes(MIB + number))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    watch = xfer.Observer()
    setattr(watch, at, fail)
    with serving(tmp_path) as (_, host):
        with pytest.raises(ZeroDivisionError):
            xfer.send(tree, host, secret=SECRET, progress=watch, connections=connections)
        receipts = xfer.send(tree, host, secret=SECRET, connections=connections)
    assert len(receipts) == 6


def test_the_secret_is_found_as_the_command_line_finds_it(
    tmp_path: Path, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("XFER_SECRET", raising=False)
    with serving(tmp_path) as (_, host):
        assert xfer.find_secret() is None
        with pytest.raises(xfer.LocalError, match="no secret: copy the receiver's to"):
            xfer.send(document, host)
        own = tmp_path / "config" / "xfer" / "secret"
        own.parent.mkdir(parents=True)
        own.write_text(SECRET + "\n")
        own.chmod(0o600)
        assert xfer.find_secret() == xfer.find_secret(own) == SECRET
        assert xfer.send(document, host)[0].outcome == "stored"
        monkeypatch.setenv("XFER_SECRET", xfer.generate_secret())
        with pytest.raises(xfer.AuthenticationError):
            xfer.send(document, host)
        monkeypatch.setenv("XFER_SECRET", SECRET)
        monkeypatch.setenv("XFER_KEY_ID", "nobody")
        with pytest.raises(xfer.AuthenticationError):
            xfer.send(document, host)
        assert xfer.send(document, host, secret=SECRET)[0].outcome == "unchanged"


def test_a_receiver_tells_of_each_receipt(tmp_path: Path, document: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to("nowhere")
    told: list[tuple[xfer.Received, str]] = []

    def tell(received: xfer.Received) -> None:
        told.append((received, threading.current_thread().name))

    with serving(tmp_path, on_receipt=tell) as (_, host):
        receipts = xfer.send([document, tree], host, secret=SECRET, checksum="blake3")
        document.write_bytes(b"another")
        receipts += xfer.send(document, host, secret=SECRET)
        xfer.send(document, host, secret=SECRET)  # skipped, so it has no receipt
        wait_until(lambda: len(told) >= len(receipts))
    assert [(one.name, one.size, one.algorithm, one.digest, one.outcome) for one, _ in told] == [
        (r.name, r.size, r.algorithm, r.digest, r.outcome) for r in receipts
    ]
    assert {one.outcome for one, _ in told} == {"stored", "versioned"}
    assert {(one.key_id, one.peer.rpartition(":")[0]) for one, _ in told} == {
        ("default", "127.0.0.1")
    }
    assert len({thread for _, thread in told}) == 2  # one of each session


def test_what_it_raises_is_logged_and_ends_nothing(
    tmp_path: Path, document: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(received: xfer.Received) -> None:
        raise ZeroDivisionError

    with serving(tmp_path, on_receipt=fail) as (_, host):
        receipts = xfer.send([document, tmp_path / "state"], host, secret=SECRET)
        wait_until(lambda: caplog.text.count(": on_receipt failed") == len(receipts))
    assert f"default {document.name}: on_receipt failed" in caplog.text


def test_who_overwrites_another_machine_s_files_is_told_and_so_is_the_log(
    tmp_path: Path,
    document: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "xfer.receiver")
    try:
        os.setxattr(document, "user.xfer.host", b"")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")

    def send_from(host: str, content: bytes) -> str:
        """As the machine `host`, to a receiver that was just started."""
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        document.write_bytes(content)
        with serving(tmp_path) as (_, where):
            (receipt,) = xfer.send(document, where, secret=SECRET)
        return receipt.previous_host

    assert [send_from("zero", b""), send_from("zero", b"0")] == ["", ""]
    assert "last written by" not in caplog.text
    time.sleep(0.05)  # until the clock of the file system has moved on
    assert [send_from("one", b"1"), send_from("one", b"22")] == ["zero", ""]
    assert send_from("two\x1b[31m" + 90 * "2", b"333") == "one"
    assert "versioned, last written by one, now by two\\x1b[31m2" in caplog.text
    assert caplog.text.count("writes over what one has written") == 1
    assert "\x1b" not in caplog.text
    assert send_from("one", b"4444").startswith("two\x1b[31m2")


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
