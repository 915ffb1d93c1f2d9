"""A key that may read sees what is below its own directory, and nothing else of this machine."""

import contextlib
import functools
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.getters import Given, get_by_hand
from tests.support.mounts import mounted
from tests.support.processes import HandSender, Site, codes, receiving, run
from xfer.auth.keys import derive_key

ALICE, BOB, LINKED = ("xfer-key-" + 43 * letter for letter in "BCD")
SECRET_TEXT: Final = b"bob's, and nobody else's"
OWN: Final = b"alice's own"


def keys_file(home: Path) -> Path:
    home.mkdir(exist_ok=True)
    keys = home / "keys"
    keys.touch(0o600)
    tables = {"alice": (ALICE, "of/alice"), "bob": (BOB, "of/bob"), "linked": (LINKED, "linked")}
    keys.write_text(
        "".join(
            f'[{key_id}]\nsecret = "{secret}"\ndirectory = "{directory}"\naccess = "read-write"\n'
            for key_id, (secret, directory) in tables.items()
        )
    )
    return keys


@contextlib.contextmanager
def receiving_for_both(home: Path) -> Iterator[Site]:
    options = ("--insecure-plaintext", "--no-fsync", "--keys", str(keys_file(home)))
    with receiving(home, *options, secret=None) as site:
        yield site
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("hub")
    for key_id, text in (("alice", OWN), ("bob", SECRET_TEXT)):
        directory = home / "received" / "of" / key_id
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(text)
    (home / "received" / "linked").symlink_to("of/bob")
    (home / "outside").write_bytes(SECRET_TEXT)
    with receiving_for_both(home) as site:
        yield site


def alice(site: Site) -> HandSender:
    return HandSender(site, derive_key(ALICE), "alice")


def alice_gets(site: Site, *names: str) -> Given:
    with alice(site) as getter:
        given = get_by_hand(getter, *names)
    assert SECRET_TEXT not in given.files.values()
    return given


@pytest.mark.parametrize(
    "name",
    [
        "..", "../bob", "../bob/file", "x/../../bob/file", "./file", "file/", "//file", "a//b", "",
        "/etc/passwd", ".xfer", ".xfer/lock", ".xfer/../file", "a\0b", "\x1b[2J", "\ud800",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(hub: Site, name: str) -> None:
    given = alice_gets(hub, name)
    assert given == Given(ended_with="bad_name")


@pytest.mark.parametrize(
    "name", ["of/alice/file", "bob/file", "of", "file/below", ".XFER", ".Xfer"]
)
def test_a_name_that_is_not_below_her_directory_is_not_there(hub: Site, name: str) -> None:
    assert alice_gets(hub, name) == Given(refused={name.rpartition("/")[2]: "not_found"})


def test_everything_is_all_below_her_directory_and_without_what_the_receiver_keeps(
    hub: Site, tmp_path: Path
) -> None:
    assert alice_gets(hub, ".").files["file"] == OWN
    with receiving(tmp_path, "--insecure-plaintext", "--access", "read") as site:
        (site.directory / "file").write_bytes(OWN)
        with HandSender(site) as getter:
            assert get_by_hand(getter, ".") == Given(files={"file": OWN})


@pytest.mark.parametrize("target", ["../bob", "/etc", "../../../outside", "../..", "out"])
def test_a_link_that_she_has_sent_is_given_as_a_link_and_leads_nowhere(
    hub: Site, tmp_path: Path, target: str
) -> None:
    name = tmp_path.name
    with alice(hub) as sender:
        sender.say({"type": "symlink", "file_name": f"{name}/out", "target": target})
        assert codes(sender.answers()) == [("receipt", "stored")]
    given = alice_gets(hub, name)
    assert (given.links, given.files, given.refused) == ({f"{name}/out": target}, {}, {})
    for below in ("file", "passwd", "outside", "bob/file"):
        assert alice_gets(hub, f"{name}/out/{below}").files == {}


def test_a_directory_of_a_key_that_is_a_link_is_not_entered(hub: Site) -> None:
    with HandSender(hub, derive_key(LINKED), "linked") as getter:
        assert get_by_hand(getter, "file") == Given(refused={"file": "not_found"})
    with HandSender(hub, derive_key(LINKED), "linked") as getter:
        assert get_by_hand(getter, ".") == Given()


def test_a_link_that_is_planted_between_two_keys_is_no_way_either(hub: Site) -> None:
    planted = hub.directory / "of" / "alice" / "planted"
    planted.symlink_to("../bob")
    (hub.directory / "of" / "alice" / "planted-file").symlink_to(hub.home / "outside")
    assert alice_gets(hub, ".").links.keys() >= {"planted", "planted-file"}
    below = alice_gets(hub, "planted/file", "planted-file/x")
    assert below == Given(refused={"file": "not_found", "x": "not_found"})


def swap(path: Path, outside: Path, enough: threading.Event) -> None:
    """Make `path` now what it is, now a link to `outside`, until it is enough."""
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
            step()


def met_both(seen: list[Given]) -> bool:
    """Whether it was met as what it is, and as a link."""
    return any(OWN in given.files.values() for given in seen) and any(given.links for given in seen)


@pytest.mark.parametrize("kind", ["a directory", "a file"])
def test_what_is_swapped_for_a_link_while_a_get_walks_is_never_followed(
    hub: Site, tmp_path: Path, kind: str
) -> None:
    top = hub.directory / "of" / "alice" / tmp_path.name
    raced, outside = top / "raced", hub.home / tmp_path.name
    outside.mkdir()
    (outside / "file").write_bytes(SECRET_TEXT)
    top.mkdir()
    if kind == "a directory":
        raced.mkdir()
        (raced / "file").write_bytes(OWN)
    else:
        raced.write_bytes(OWN)
    target = outside if kind == "a directory" else outside / "file"
    enough = threading.Event()
    swapping = threading.Thread(target=swap, args=(raced, target, enough))
    swapping.start()
    seen: list[Given] = []
    try:
        while len(seen) < 120 or not met_both(seen):
            assert len(seen) < 4000, "it was never met as a link, or never as what it is"
            seen.append(alice_gets(hub, tmp_path.name))
            seen.append(alice_gets(hub, f"{tmp_path.name}/raced"))
    finally:
        enough.set()
        swapping.join()


def test_fifos_sockets_and_devices_are_passed_over_and_wait_for_nobody(
    hub: Site, tmp_path: Path
) -> None:
    top = hub.directory / "of" / "alice" / tmp_path.name
    top.mkdir()
    os.mkfifo(top / "fifo")
    with contextlib.chdir(top), socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    if not os.geteuid():
        os.mknod(top / "device", 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
    (top / "file").write_bytes(OWN)
    name = tmp_path.name
    assert alice_gets(hub, name) == Given(files={f"{name}/file": OWN}, directories=[name])
    assert alice_gets(hub, f"{name}/fifo", f"{name}/file") == Given(
        files={"file": OWN}, refused={"fifo": "unsupported"}
    )


def test_a_hard_link_is_a_file_like_any_other(hub: Site, tmp_path: Path) -> None:
    """Who made it on the receiver's disk could have copied it as well."""
    hard = hub.directory / "of" / "alice" / tmp_path.name
    os.link(hard.with_name("file"), hard)
    assert alice_gets(hub, tmp_path.name).files == {tmp_path.name: OWN}
    hard.unlink()


@pytest.mark.parametrize("key_id", ["alice", "bob"])
def test_each_gets_and_sends_below_its_own_directory_only(
    hub: Site, tmp_path: Path, key_id: str
) -> None:
    secret = {"alice": ALICE, "bob": BOB}[key_id]
    source = tmp_path / f"sent-{key_id}"
    source.write_bytes(key_id.encode())
    (tmp_path / "back").mkdir()
    assert hub.send("--key-id", key_id, source, secret=secret).code == 0
    words = ("get", "--insecure-plaintext", "--key-id", key_id, "--to", tmp_path / "back")
    assert run(tmp_path, *words, source.name, hub.host, secret=secret).code == 0
    assert (tmp_path / "back" / source.name).read_bytes() == source.read_bytes()
    other = {"alice": "sent-bob", "bob": "sent-alice"}[key_id]
    assert run(tmp_path, *words, other, hub.host, secret=secret).code == 6


def test_the_receiver_s_own_is_not_given_where_it_is_mounted_a_second_time(
    tmp_path: Path,
) -> None:
    with receiving_for_both(tmp_path / "home") as site:
        second = site.directory / "of" / "alice" / "second"
        with mounted(second, "--bind", site.directory / ".xfer"):
            for names in (["second"], ["."], ["second/lock"]):
                given = alice_gets(site, *names)
                assert (given.files, given.ended_with) == ({}, "")


def test_nor_under_another_spelling_where_the_disk_folds_case(tmp_path: Path) -> None:
    """On such a disk these names are the receiver's own; here it was renamed instead."""
    with receiving(tmp_path, "--insecure-plaintext", "--access", "read") as site:
        (site.directory / "file").write_bytes(OWN)
        (site.directory / ".xfer").rename(site.directory / ".XFER")
        with HandSender(site) as getter:
            given = get_by_hand(getter, ".XFER/lock", ".XFER/versions", "file")
        assert given.files == {"file": OWN}
        assert given.refused == {"lock": "bad_name", "versions": "bad_name"}
        for name in (".", ".XFER"):
            with HandSender(site) as getter:
                given = get_by_hand(getter, name)
            assert given.refused == {".XFER": "bad_name"}
            assert given.files.keys() <= {"file"}
