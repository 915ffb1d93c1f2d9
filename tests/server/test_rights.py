"""What each key may do: every right against every message, by frames that are made by hand.

Refused is refused before anything is looked up: with the same answer, whatever there is.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import HandSender, Site, codes, receiving, run
from xfer.auth.keys import Key, derive_key
from xfer.errors import ConnectionLost
from xfer.wire.messages import Done, Error, Message, Plan, PlannedFile

RIGHTS: Final = ("write", "read", "read-write", "drop")
SECRETS: Final = {
    right: f"xfer-key-{43 * letter}" for right, letter in zip(RIGHTS, "BCDE", strict=True)
}
KEYS: Final[Mapping[str, Key]] = {right: derive_key(secret) for right, secret in SECRETS.items()}
BODY: Final = b"what matters\n"
OTHER: Final = b"other matters"
LARGE: Final = bytes(range(256)) * 8192
Say = Callable[[HandSender, str], object]


def file(sender: HandSender, name: str) -> None:
    sender.file(name, BODY)


def part(sender: HandSender, name: str) -> None:
    sender.part(name, LARGE, 0, len(LARGE) // 2)


def offer(sender: HandSender, name: str, body: bytes = BODY, **keys: object) -> None:
    described = {"file_name": name, "file_size": len(body)} | keys
    sender.say({"type": "offer", "digest": "md5", "files": [described]})


def offer_of_directory(sender: HandSender, name: str) -> None:
    sender.say({"type": "offer", "digest": "md5", "files": [], "directories": [name]})


def directory(sender: HandSender, name: str) -> None:
    sender.say({"type": "directory", "file_name": name, "mode": 0o777, "mtime_ns": 5})


def symlink(sender: HandSender, name: str) -> None:
    sender.say({"type": "symlink", "file_name": name, "target": "elsewhere"})


def get(sender: HandSender, name: str) -> None:
    sender.say({"type": "get", "names": [name]})


def listing(sender: HandSender, name: str) -> None:
    sender.say({"type": "list", "names": [name]})


WRITING: Final[dict[str, Say]] = {
    "file": file,
    "part": part,
    "offer": offer,
    "offer of a directory": offer_of_directory,
    "directory": directory,
    "symlink": symlink,
    "working": lambda sender, name: sender.say({"type": "working", "file_name": name}),
    "done": lambda sender, _: sender.say({"type": "done"}),
}
READING: Final[dict[str, Say]] = {"get": get, "list": listing}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A receiver with a key of each right; all see the same names."""
    home = tmp_path_factory.mktemp("hub")
    keys = home / "keys"
    keys.touch(0o600)
    keys.write_text(
        "".join(f'[{right}]\nsecret = "{SECRETS[right]}"\naccess = "{right}"\n' for right in RIGHTS)
    )
    directory = home / "received"
    (directory / "there" / "below").mkdir(parents=True)
    (directory / "there" / "file").write_bytes(BODY)
    (directory / "there" / "link").symlink_to("file")
    with receiving(home, "--insecure-plaintext", "--keys", str(keys), secret=None) as site:
        yield site
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text


def as_holder(site: Site, right: str) -> HandSender:
    return HandSender(site, KEYS[right], right)


def heard(sender: HandSender) -> list[Message]:
    """All that the receiver says, to the end or until it closes."""
    answers: list[Message] = []
    try:
        while not answers or not isinstance(answers[-1], Done | Error):
            answers.append(sender.channel.receive())
    except ConnectionLost:
        pass
    return answers


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below `root` but what a receiver keeps for itself: content, mode, time, inode."""
    found: dict[str, tuple[object, ...]] = {}
    for at, directories, files in os.walk(root):
        for name in [*directories, *files, "."]:
            path = Path(at, name)
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path)] = (
                content, status.st_mode, status.st_mtime_ns, status.st_ino, status.st_nlink,
            )  # fmt: skip
        directories[:] = [name for name in directories if name != ".xfer"]
    return {path: what for path, what in found.items() if not path.endswith("/.xfer")}


def kept(site: Site) -> list[str]:
    """What the receiver keeps below .xfer: versions and partials."""
    state = site.directory / ".xfer"
    return sorted(
        str(path) for kind in ("versions", "partials") for path in (state / kind).rglob("*")
    )


@pytest.mark.parametrize("name", ["there/file", "there", "nowhere", "../up", ".xfer/lock"])
@pytest.mark.parametrize("message", READING)
@pytest.mark.parametrize("right", ["write", "drop"])
def test_who_may_only_write_reads_nothing(hub: Site, right: str, message: str, name: str) -> None:
    before = described(hub.directory)
    with as_holder(hub, right) as sender:
        READING[message](sender, name)
        answers = heard(sender)
    assert codes(answers) == [("error", "access")]
    assert isinstance(answers[0], Error)
    assert answers[0].message == (
        f"this key may not read what is stored: its access is {right}; the receiver's owner can "
        'allow it with --access read-write, or access = "read-write" in the keys file'
    )
    assert not answers[0].retryable
    assert described(hub.directory) == before


@pytest.mark.parametrize("name", ["there/file", "there", "new", "../up", ".xfer/lock"])
@pytest.mark.parametrize("message", WRITING)
def test_who_may_only_read_writes_nothing(hub: Site, message: str, name: str) -> None:
    before, state = described(hub.directory), kept(hub)
    with as_holder(hub, "read") as sender:
        WRITING[message](sender, name)
        answers = heard(sender)
    assert codes(answers) == [("error", "access")]
    assert isinstance(answers[0], Error)
    assert "store anything: its access is read;" in answers[0].message
    assert "--access read-write" in answers[0].message
    assert (described(hub.directory), kept(hub)) == (before, state)


@pytest.mark.parametrize("message", WRITING)
@pytest.mark.parametrize("right", ["write", "read-write", "drop"])
def test_who_may_write_does(hub: Site, right: str, message: str) -> None:
    with as_holder(hub, right) as sender:
        WRITING[message](sender, f"{right}-{message}".replace(" ", "-"))
        answers = sender.answers(finish=message != "done")
    assert all(kind in ("receipt", "plan") for kind, _ in codes(answers))


@pytest.mark.parametrize("right", ["read", "read-write"])
def test_who_may_read_gets_and_lists(hub: Site, right: str) -> None:
    with as_holder(hub, right) as sender:
        get(sender, "there/link")
        assert [sender.channel.receive().type for _ in range(3)] == ["offer", "symlink", "done"]
        sender.say({"type": "receipt", "file_name": "link", "outcome": "stored"})
        sender.say({"type": "done"})
    with as_holder(hub, right) as sender:
        listing(sender, "there/file")
        assert [message.type for message in heard(sender)] == ["listing", "done"]


@pytest.mark.parametrize("right", RIGHTS)
@pytest.mark.parametrize("message", READING)
def test_a_request_that_comes_later_is_answered_to_nobody(
    hub: Site, right: str, message: str
) -> None:
    """What a key may do is decided by the first message: no other one begins something else."""
    with as_holder(hub, right) as sender:
        offer(sender, "there/file")
        READING[message](sender, "there/file")
        said = codes(heard(sender))
    assert said[-1] == ("error", "access" if right == "read" else "bad_frame")


@pytest.mark.parametrize("message", [*WRITING][:6])
@pytest.mark.parametrize("right", ["read", "read-write"])
def test_what_is_sent_after_a_get_stores_nothing(hub: Site, right: str, message: str) -> None:
    before, state = described(hub.directory), kept(hub)
    with as_holder(hub, right) as sender:
        get(sender, "there/file")
        WRITING[message](sender, "there/file")
        heard(sender)
    assert (described(hub.directory), kept(hub)) == (before, state)


@pytest.mark.parametrize("right", RIGHTS)
def test_an_error_first_ends_the_session_and_nothing_else(hub: Site, right: str) -> None:
    with as_holder(hub, right) as sender:
        sender.say({"type": "error", "code": "cancelled", "message": "never mind",
                    "retryable": True})  # fmt: skip
        said = codes(heard(sender))
    assert said in ([], [("error", "access")], [("error", "cancelled")])
    with as_holder(hub, right) as sender:
        assert sender.channel  # the next one gets in


# A key that may only add


@pytest.fixture
def taken(hub: Site, tmp_path: Path) -> Iterator[str]:
    """A directory of this test's own with something of each kind, that stays as it is."""
    root = hub.directory / tmp_path.name
    (root / "directory" / "below").mkdir(parents=True, mode=0o711)
    (root / "file").write_bytes(BODY)
    (root / "large").write_bytes(LARGE)
    (root / "link").symlink_to("elsewhere")
    os.mkfifo(root / "fifo")
    for name in ("file", "large", "directory", "directory/below", "link", "fifo", "."):
        os.utime(root / name, ns=(7, 7), follow_symlinks=False)
    before, state = described(root), kept(hub)
    yield root.name
    assert (described(root), kept(hub)) == (before, state)


def answers_of_drop(hub: Site, say: Say, name: str) -> list[Message]:
    with as_holder(hub, "drop") as sender:
        say(sender, name)
        return sender.answers()


def planned_in(answers: list[Message]) -> PlannedFile:
    """The one file that the one plan is for."""
    (plan,) = answers
    assert isinstance(plan, Plan)
    (planned,) = plan.files
    return planned


@pytest.mark.parametrize("body", [BODY, OTHER, LARGE], ids=["same", "other", "large"])
@pytest.mark.parametrize("name", ["file", "large", "directory", "link", "fifo"])
def test_a_taken_name_is_refused_whatever_has_it_and_whatever_comes(
    hub: Site, taken: str, name: str, body: bytes
) -> None:
    """So who holds the key cannot find out by trying what is there."""
    answers = answers_of_drop(
        hub,
        lambda sender, path: sender.file(path, body, mode=0o600, mtime_ns=7),
        f"{taken}/{name}",
    )
    assert codes(answers) == [("refusal", "exists")]
    assert getattr(answers[0], "message", "") == "this name is taken"


@pytest.mark.parametrize("name", ["file", "large", "directory", "link", "fifo"])
def test_so_is_one_that_a_link_would_take(hub: Site, taken: str, name: str) -> None:
    answers = answers_of_drop(hub, symlink, f"{taken}/{name}")  # the link there has this target
    assert [(kind, code) for kind, code in codes(answers)] == [("refusal", "exists")]
    assert getattr(answers[0], "message", "") == "this name is taken"


@pytest.mark.parametrize("name", ["file", "link", "fifo"])
@pytest.mark.parametrize("say", [directory, lambda s, n: file(s, f"{n}/x")], ids=["it", "below it"])
def test_so_is_one_that_a_directory_would_take(hub: Site, taken: str, say: Say, name: str) -> None:
    answers = answers_of_drop(hub, say, f"{taken}/{name}")
    assert codes(answers) == [("refusal", "exists")]
    assert getattr(answers[0], "message", "") == "this name is taken"


def test_a_directory_that_is_there_stays_as_it_is_and_nobody_is_told(hub: Site, taken: str) -> None:
    there = answers_of_drop(hub, directory, f"{taken}/directory")
    assert codes(there) == [("receipt", "stored")]


@pytest.mark.parametrize("known", [{}, {"mtime_ns": 7, "mode": 0o644}, {"digest": True}],
                         ids=["nothing", "size and time", "digest"])  # fmt: skip
@pytest.mark.parametrize("name", ["file", "large", "directory", "link", "nowhere"])
def test_an_offer_says_nothing_of_what_is_there(
    hub: Site, taken: str, name: str, known: dict[str, object]
) -> None:
    body = LARGE if name == "large" else BODY
    keys = dict(known)
    if keys.pop("digest", None):
        keys["md5"] = hashlib.md5(body, usedforsecurity=False).hexdigest()
    for content in (body, body + b"grown"):  # the beginning of what is offered may be there

        def say(sender: HandSender, path: str, content: bytes = content) -> None:
            offer(sender, path, content, **keys)

        answers = answers_of_drop(hub, say, f"{taken}/{name}")
        assert [message.type for message in answers] == ["plan"]
        planned = planned_in(answers)
        assert (planned.action, planned.offset, planned.differs) == ("send", 0, False)


def test_no_directory_is_said_to_be_absent(hub: Site, taken: str) -> None:
    for name in (taken, "nowhere"):
        assert answers_of_drop(hub, offer_of_directory, name) == []


def test_what_is_stored_is_the_beginning_of_nothing(hub: Site, taken: str) -> None:
    grown = LARGE + b"grown"
    answers = answers_of_drop(
        hub,
        lambda sender, path: sender.part(path, grown, len(LARGE), len(grown)),
        f"{taken}/large",
    )
    missing = answers_of_drop(
        hub,
        lambda sender, path: sender.part(path, grown, len(LARGE), len(grown)),
        f"{taken}/nowhere",
    )
    assert codes(answers) == codes(missing) == [("refusal", "bad_part")]
    assert getattr(answers[0], "message", "") == getattr(missing[0], "message", "-")


def test_what_was_interrupted_is_resumed_by_the_key_that_sent_it_only(
    hub: Site, tmp_path: Path
) -> None:
    name, half = f"{tmp_path.name}-resumed", len(LARGE) // 2

    def plan_for(right: str) -> tuple[str, int]:
        with as_holder(hub, right) as sender:
            offer(sender, name, LARGE)
            planned = planned_in(sender.answers())
        return planned.action, planned.offset

    for right in ("write", "drop"):
        with as_holder(hub, right) as sender:
            sender.part(name, LARGE, 0, half if right == "drop" else half // 2)
            assert sender.answers() == []
    assert plan_for("drop") == ("resume", half)
    assert plan_for("write") == ("resume", half // 2)
    with as_holder(hub, "drop") as sender:
        sender.part(name, LARGE, half, len(LARGE))
        assert codes(sender.answers()) == [("receipt", "stored")]
    assert (hub.directory / name).read_bytes() == LARGE
    assert plan_for("drop") == ("send", 0)


def test_of_two_in_one_batch_the_first_has_the_name(hub: Site, tmp_path: Path) -> None:
    with as_holder(hub, "drop") as sender:
        sender.file(tmp_path.name, BODY)
        sender.file(tmp_path.name, OTHER)
        assert sorted(codes(sender.answers())) == [("receipt", "stored"), ("refusal", "exists")]
    assert (hub.directory / tmp_path.name).read_bytes() == BODY


def test_a_tree_is_added_with_its_modes_and_times(hub: Site, tmp_path: Path) -> None:
    source = tmp_path / f"{tmp_path.name}-tree"
    (source / "below").mkdir(parents=True)
    (source / "below" / "file").write_bytes(BODY)
    (source / "below").chmod(0o711)
    os.utime(source / "below", ns=(9, 9))
    words = ("--key-id", "drop", source)
    assert hub.send(*words, secret=SECRETS["drop"]).code == 0
    status = (hub.directory / source.name / "below").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o711, 9)
    again = hub.send(*words, secret=SECRETS["drop"])
    assert again.code == 7  # the file is refused, the directories are there
    assert "below/file: this name is taken" in again.err


# --access


@pytest.mark.parametrize("right", RIGHTS)
def test_access_is_what_one_secret_allows(tmp_path: Path, right: str) -> None:
    with receiving(tmp_path, "--insecure-plaintext", "--access", right) as site:
        (site.directory / "there").write_bytes(BODY)
        with HandSender(site) as sender:
            file(sender, "new")
            may_write = codes(sender.answers())
        with HandSender(site) as sender:
            get(sender, "nowhere")
            may_read = heard(sender)[-1].type != "error"
        with HandSender(site) as sender:
            file(sender, "there")
            unchanged = codes(sender.answers())
    assert may_read == ("read" in right)
    assert may_write == [("error", "access") if right == "read" else ("receipt", "stored")]
    assert unchanged == [
        {"read": ("error", "access"), "drop": ("refusal", "exists")}.get(
            right, ("receipt", "unchanged")
        )
    ]


def test_the_service_that_is_printed_has_the_same_access(tmp_path: Path) -> None:
    words = ("receive", "--dir", tmp_path, "--access", "read-write")
    printed = run(tmp_path, *words, "--print-unit", "service")
    assert (printed.code, "--access read-write" in printed.out) == (0, True), printed


def test_access_beside_keys_is_said_in_their_file(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text(f'[alice]\nsecret = "{SECRETS["read"]}"\naccess = "all"\n')
    words = ("receive", "--dir", tmp_path, "--keys", keys)
    wrong = run(tmp_path, *words, secret=None)
    assert (wrong.code, "has an access other than write, read, read-write, drop" in wrong.err) == (
        1, True,
    ), wrong  # fmt: skip
    both = run(tmp_path, *words, "--access", "read", secret=None)
    assert (both.code, "access is said for each key" in both.err) == (2, True), both
