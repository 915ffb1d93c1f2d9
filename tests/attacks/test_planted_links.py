"""What another local process puts in a receiver's way: nothing outside DIR is read or written."""

import contextlib
import functools
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import HandSender, Site, codes, receiving, wait_until
from tests.support.trees import everything_below

SECRET_TEXT: Final = b"outside, and staying as it is"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("plain")
    with receiving(home, "--insecure-plaintext", "--no-fsync") as site:
        yield site
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that must be after the test as it was before."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "victim").write_bytes(SECRET_TEXT)
    yield directory
    assert everything_below(directory) == [str(directory / "victim")]
    assert (directory / "victim").read_bytes() == SECRET_TEXT


def outcomes(site: Site, *names: str) -> list[tuple[str, str]]:
    """What a sender of these files is told, in any order."""
    with HandSender(site) as sender:
        for name in names:
            sender.file(name, b"from the sender", mode=0o666)
        return sorted(codes(sender.answers()))


def test_a_link_that_was_planted_is_no_way_out(plain: Site, outside: Path) -> None:
    (plain.directory / "planted").symlink_to(outside)
    (plain.directory / "inside").mkdir()
    (plain.directory / "inside" / "deeper").symlink_to(outside)
    (plain.directory / "loop").symlink_to("loop")
    names = ["planted/victim", "planted/new", "inside/deeper/victim", "loop/a"]
    with HandSender(plain) as sender:
        sender.say({"type": "offer", "digest": "md5", "files": [
            {"file_name": name, "file_size": len(SECRET_TEXT)} for name in names
        ]})  # fmt: skip
        plans = [file for answer in sender.answers() for file in getattr(answer, "files", ())]
    assert [(plan.action, plan.offset, plan.digest) for plan in plans] == 4 * [("send", 0, None)]
    kept = 3 * [("receipt", "versioned")]  # each link is, where there is a directory now
    assert outcomes(plain, *names) == [("receipt", "stored"), *kept]


def test_a_link_that_an_earlier_send_made_is_no_way_out(plain: Site, outside: Path) -> None:
    with HandSender(plain) as sender:
        sender.say({"type": "symlink", "file_name": "sent", "target": str(outside)})
        assert codes(sender.answers()) == [("receipt", "stored")]
    assert outcomes(plain, "sent/victim") == [("receipt", "versioned")]
    with HandSender(plain) as sender:  # in one batch, whichever of them comes first there
        sender.say({"type": "symlink", "file_name": "batch", "target": str(outside)})
        sender.file("batch/victim", b"from the sender")
        first, second = sorted(codes(sender.answers()))
        # Where the batch ended between them, the link is a version, as above.
        assert (first, second[1] in ("exists", "versioned")) == (("receipt", "stored"), True)


def swap(path: Path, outside: Path, enough: threading.Event) -> None:
    """Make `path` now a directory, now a link to `outside`, now nothing, until it is enough."""
    for number in itertools.count():
        if enough.is_set():
            return
        spare = path.with_name(f"{path.name}-{number}")
        steps: list[Callable[[], object]] = [
            functools.partial(path.rename, spare),
            functools.partial(path.symlink_to, outside),
            path.unlink,
            functools.partial(spare.rename, path),
        ]
        for step in steps:
            with contextlib.suppress(OSError):  # the receiver was there in between
                step()


def test_a_directory_that_is_swapped_for_a_link_in_a_race_is_no_way_out(
    plain: Site, outside: Path
) -> None:
    raced, enough = plain.directory / "raced", threading.Event()
    raced.mkdir()
    thread = threading.Thread(target=swap, args=(raced, outside, enough))
    thread.start()
    try:
        answers = [
            a for _ in range(20) for a in outcomes(plain, *(f"raced/{n}" for n in range(30)))
        ]
    finally:
        enough.set()
        thread.join()
    assert len(answers) == 600
    possible = {"stored", "versioned", "unchanged", "exists", "storage"}
    assert {code for _, code in answers} <= possible


def test_a_name_that_is_swapped_for_a_link_is_not_written_through(
    plain: Site, outside: Path
) -> None:
    name = plain.directory / "name"
    enough = threading.Event()

    def swap() -> None:
        while not enough.is_set():
            with contextlib.suppress(OSError):
                name.symlink_to(outside / "victim")
            with contextlib.suppress(OSError):
                name.unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(30):
            outcomes(plain, "name")
    finally:
        enough.set()
        thread.join()


@pytest.mark.parametrize("name", [".xfer", ".xfer/lock", ".xfer/partials/x", ".xfer/versions/x/y"])
def test_the_state_directory_is_nobodys(plain: Site, name: str) -> None:
    assert outcomes(plain, name) == [("refusal", "bad_name")]
    for spelled in (f"./{name}", f"a/../{name}", f"/{name}", f"{name}/", f"{name}\0"):
        assert outcomes(plain, spelled) == [("refusal", "bad_name")]


def test_other_spellings_are_other_names(plain: Site) -> None:
    """On a file system that folds case they would be the receiver's own; here they are not."""
    before = everything_below(plain.directory / ".xfer")
    spelled = [".XFER/a", ".Xfer/a", ".xfer\u200c/a", ".xfer ./a", "d/.xfer/a", "\uff0exfer/a"]
    assert outcomes(plain, *spelled) == len(spelled) * [("receipt", "stored")]
    assert everything_below(plain.directory / ".xfer") == before


IN_THE_WAY: Final[dict[str, tuple[Callable[[Path], object], tuple[str, str]]]] = {
    "a FIFO": (os.mkfifo, ("receipt", "versioned")),
    "a device": (lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)), ("receipt", "versioned")),
    "a directory": (os.mkdir, ("receipt", "versioned")),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), ("receipt", "versioned")),
    "a link to itself": (lambda path: path.symlink_to(path.name), ("receipt", "versioned")),
}


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_what_is_in_the_way_is_never_opened(plain: Site, kind: str) -> None:
    """A FIFO would wait for ever, /dev/zero never end."""
    make, outcome = IN_THE_WAY[kind]
    name = kind.replace(" ", "-")
    try:
        make(plain.directory / name)
    except PermissionError:
        pytest.skip("only root makes devices")
    assert outcomes(plain, name) == [outcome]
    assert outcomes(plain, f"{name}/below") == [("receipt", "versioned")]


def test_a_hard_link_inside_is_replaced_and_never_written_through(
    plain: Site, outside: Path
) -> None:
    os.link(outside / "victim", plain.directory / "hard")
    assert outcomes(plain, "hard") == [("receipt", "versioned")]
    assert plain.stored("hard").read_bytes() == b"from the sender"
    os.link(outside / "victim", plain.directory / "resumed")
    with HandSender(plain) as sender:  # older content that goes on is copied, not written to
        sender.part("resumed", SECRET_TEXT + b"!", len(SECRET_TEXT), len(SECRET_TEXT) + 1)
        assert codes(sender.answers()) == [("receipt", "versioned")]
    assert plain.stored("resumed").read_bytes() == SECRET_TEXT + b"!"


def test_nor_do_a_file_s_mode_and_time_change_under_a_name_outside(
    plain: Site, outside: Path, tmp_path: Path
) -> None:
    own = tmp_path / "victim"
    for options in ([], ["--checksum-all"]):
        own.unlink(missing_ok=True)
        plain.stored("victim").unlink(missing_ok=True)
        shutil.copy(outside / "victim", own)
        own.chmod(0o777)
        os.link(outside / "victim", plain.directory / "victim")
        before = os.stat(outside / "victim")
        if not options:
            os.utime(own, ns=(before.st_mtime_ns, before.st_mtime_ns))
        assert plain.send(*options, own).code == 0
        after, stored = os.stat(outside / "victim"), plain.stored("victim").stat()
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
        assert (stored.st_mode & 0o777, stored.st_mtime_ns) == (0o777, own.stat().st_mtime_ns)


@pytest.mark.parametrize("way", ["a link", "gone", "a file"])
def test_partials_that_are_replaced_lead_nowhere(tmp_path: Path, outside: Path, way: str) -> None:
    """The receiver holds its directories open: what has their names now is not theirs."""
    with receiving(tmp_path / "home", "--insecure-plaintext") as site:
        partials = site.directory / ".xfer" / "partials"
        with HandSender(site) as sender:
            sender.part("kept", SECRET_TEXT, 0, 5)
            wait_until(site.partials)
            if way == "gone":
                shutil.rmtree(partials)
            else:
                partials.rename(partials.with_name("moved"))
                if way == "a link":
                    partials.symlink_to(outside)
                else:
                    partials.touch()
            sender.file("other", b"small")
            sender.part("kept", SECRET_TEXT, 5, len(SECRET_TEXT))
            answers = codes(sender.answers())
        expected = ("refusal", "storage") if way == "gone" else ("receipt", "stored")
        assert {answer[0] for answer in answers} == {expected[0]}
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text


def test_a_sender_makes_nothing_set_id_or_sticky(plain: Site) -> None:
    with HandSender(plain) as sender:
        for number, mode in enumerate((0o4755, 0o2755, 0o1777, 0o7777)):
            sender.file(f"set-{number}", b"#!/bin/sh\n", mode=mode)
            sender.say({"type": "directory", "file_name": f"dir-{number}", "mode": mode})
        assert set(codes(sender.answers())) == {("receipt", "stored")}
    for number in range(4):
        for name in (f"set-{number}", f"dir-{number}"):
            assert plain.stored(name).stat().st_mode & 0o7000 == 0
