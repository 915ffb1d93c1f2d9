"""A getter that holds the secret, and lies, asks for ever, or does not read: the receiver tells
nothing that it must not, keeps neither memory nor a thread for it, and serves the others."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.fuzzed_sessions import usage
from tests.support.getters import Given, get_by_hand
from tests.support.processes import HandSender, Site, receiving, wait_until
from xfer.errors import XferError

SMALL: Final = b"what matters\n"
LARGE_BYTES: Final = 1 << 30
_GROWTH_KIB: Final = 48 * 1024


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("vault")
    options = ("--insecure-plaintext", "--no-fsync", "--access", "read", "--timeout", "2")
    with receiving(home, *options) as site:
        for name in ("a/x", "b/x", "docs/deep/file"):
            (site.directory / name).parent.mkdir(parents=True, exist_ok=True)
            (site.directory / name).write_bytes(SMALL)
        with (site.directory / "large").open("wb") as large:
            large.truncate(LARGE_BYTES)
        yield site
        assert site.process.poll() is None
        with HandSender(site) as getter:
            assert get_by_hand(getter, "a/x") == Given(files={"x": SMALL})
    assert "Traceback" not in site.log.text
    assert "internal" not in site.log.text


def threads(site: Site) -> int:
    return len(os.listdir(f"/proc/{site.process.pid}/task"))


def gets(site: Site, *names: str, **keys: object) -> Given:
    with HandSender(site) as getter:
        return get_by_hand(getter, *names, **keys)


# What is asked for


def test_names_without_an_end_are_refused_before_they_take_memory(vault: Site) -> None:
    names = [f"{'n' * 200}/{'m' * 200}/{'o' * 200}/{number}" for number in range(90)]
    before = usage(vault.process.pid)[1]
    with HandSender(vault) as getter:
        with contextlib.suppress(XferError):  # it has enough, and says so
            for number in range(2000):
                more = [f"{name}-{number}" for name in names]
                getter.say({"type": "get", "names": more, "more": True})
        error = getter.channel.receive()
    assert (error.type, getattr(error, "code", "")) == ("error", "too_large")
    assert usage(vault.process.pid)[1] < before + _GROWTH_KIB


@pytest.mark.parametrize("kind", ["get", "list"])
def test_nor_do_messages_without_names_go_on_for_ever(vault: Site, kind: str) -> None:
    with HandSender(vault) as getter:
        with contextlib.suppress(XferError):
            for _ in range(40_000):
                getter.say({"type": kind, "names": [], "more": True})
        assert getattr(getter.channel.receive(), "code", "") == "too_large"


def test_all_names_of_a_command_line_are_not_too_many(vault: Site) -> None:
    names = [f"{'/'.join(['n' * 200] * 10)}/{number}" for number in range(30)]
    with HandSender(vault) as getter:
        for part in range(35):  # 2 MiB
            more = [f"{name}-{part}" for name in names]
            getter.say({"type": "get", "names": more, "more": True})
        given = get_by_hand(getter, "a/x")
    assert (len(given.refused), given.files) == (35 * 30, {"x": SMALL})


def test_the_same_name_a_thousand_times_is_given_once(vault: Site) -> None:
    assert gets(vault, *1000 * ["a/x"]) == Given(files={"x": SMALL})


@pytest.mark.parametrize("names", [("a/x", "b/x"), (".", "a"), ("a/x", ".")])
def test_two_things_are_not_given_under_one_name(vault: Site, names: tuple[str, str]) -> None:
    assert gets(vault, *names) == Given(ended_with="bad_name")


def test_nothing_is_given_where_nothing_is_asked_for(vault: Site) -> None:
    assert gets(vault) == Given()


@pytest.mark.parametrize(
    "keys",
    [{"share": 2, "shares": 2}, {"share": -1}, {"shares": 0}, {"shares": 65}, {"digest": "crc"},
     {"at": "yesterday"}, {"more": 1}, {"compare_contents": "yes"}, {"names": "a"}, {"names": [1]}],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_a_bad_frame(vault: Site, keys: dict[str, object]) -> None:
    with HandSender(vault) as getter:
        getter.say({"type": "get", "names": ["a/x"]} | keys)
        assert getattr(getter.channel.receive(), "code", "") == "bad_frame"


def test_shares_are_all_that_there_is_and_none_of_it_twice(vault: Site) -> None:
    parts = [gets(vault, "docs", "a", "large-not", share=n, shares=5) for n in range(5)]
    found = [name for part in parts for name in part.files]
    assert sorted(found) == ["a/x", "docs/deep/file"]
    assert not any(part.directories for part in parts)


def test_a_thousand_gets_that_are_left_alone_leave_nothing_behind(vault: Site) -> None:
    def leave(times: int) -> None:
        for _ in range(times):
            with HandSender(vault) as getter:
                getter.say({"type": "get", "names": ["docs"]})

    leave(400)
    wait_until(lambda: threads(vault) == 1)
    before = usage(vault.process.pid)
    leave(600)
    wait_until(lambda: threads(vault) == 1)
    descriptors, resident = usage(vault.process.pid)
    assert descriptors <= before[0] + 2
    assert resident <= before[1] + _GROWTH_KIB


# What is answered


def after_offer(site: Site, name: str, *said: dict[str, object]) -> tuple[list[str], bytes]:
    """The types of what comes after `said`, which answers the offer of `name`; and all bytes."""
    with HandSender(site) as getter:
        getter.say({"type": "get", "names": [name]})
        while not getattr(message := getter.channel.receive(), "files", ()):
            assert message.type == "offer"
        for one in said:
            getter.say(one)
        seen, heard = b"", []
        with contextlib.suppress(XferError):
            while (message := getter.channel.receive()).type != "done":
                heard.append(message.type)
                seen += getter.channel.read(getattr(message, "body", 0))
    return heard, seen


def planned(name: str, action: str, **keys: object) -> dict[str, object]:
    return {"type": "plan", "files": [{"file_name": name, "action": action} | keys]}


RECEIPT: Final[dict[str, object]] = {"type": "receipt", "file_name": "x", "outcome": "stored",
                                     "file_size": len(SMALL), "md5": 32 * "0"}  # fmt: skip
LIES: Final[dict[str, list[dict[str, object]]]] = {
    "a plan for what was not offered": [planned("/etc/passwd", "send")],
    "a plan for a name of the store": [planned("b/x", "send")],
    "a receipt before the file": [RECEIPT],
    "a receipt with another digest": [planned("x", "send"), RECEIPT],
    "done before the end": [{"type": "done"}],
    "an offer of its own": [{"type": "offer", "files": []}],
    "a file of its own": [{"type": "directory", "file_name": "x"}],
    "another get": [{"type": "get", "names": ["b"]}],
    "a refusal of nothing, and done": [
        {"type": "refusal", "file_name": "y", "code": "exists", "message": "no",
         "retryable": False},
        {"type": "done"},
    ],
    "an absent directory that is none": [{"type": "plan", "files": [], "absent": ["b"]}],
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_getter_that_lies_is_left_alone_and_gets_nothing_else(vault: Site, lie: str) -> None:
    heard, seen = after_offer(vault, "a/x", *LIES[lie])
    assert set(heard) <= {"file", "offer", "error"}
    assert seen in (b"", SMALL)
    assert not any(path.name == ".xfer" for path in (vault.directory / "a").iterdir())


@pytest.mark.parametrize("offset", [5, len(SMALL), 1000, 2**62])
def test_an_offset_whose_digest_is_not_the_file_s_begins_at_nothing(
    vault: Site, offset: int
) -> None:
    wrong = planned("x", "resume", offset=offset, md5=32 * "0")
    assert after_offer(vault, "a/x", wrong) == (["file"], SMALL)


@pytest.mark.parametrize("action", ["skip", "refuse"])
def test_what_is_not_wanted_is_not_given(vault: Site, action: str) -> None:
    said = [planned("x", action)]
    refusal: dict[str, object] = {"type": "refusal", "file_name": "x", "code": "exists",
                                  "message": "\x1b[2Jno", "retryable": False}  # fmt: skip
    if action == "refuse":
        said.insert(0, refusal)
    assert after_offer(vault, "a/x", *said, {"type": "done"}) == ([], b"")
    assert "\x1b" not in vault.log.text


def test_text_that_steers_a_terminal_is_escaped_in_the_log(vault: Site) -> None:
    with HandSender(vault) as getter:
        getter.say({"type": "get", "names": ["a/x"]})
        getter.channel.receive()
        getter.say({"type": "error", "code": "cancelled", "message": "\x1b[2Jgone\r",
                    "retryable": True})  # fmt: skip
        vault.log.wait_for(r"\\x1b\[2Jgone\\r")
    assert "\x1b" not in vault.log.text


# What is not read


def test_who_does_not_read_is_left_after_the_timeout(vault: Site) -> None:
    """Neither memory nor a thread nor an open file is kept for it."""
    before = usage(vault.process.pid)
    with contextlib.ExitStack() as opened:
        for _ in range(20):
            getter = opened.enter_context(HandSender(vault))
            getter.say({"type": "get", "names": ["large"]})
            while not getattr(getter.channel.receive(), "files", ()):
                pass
            getter.say(planned("large", "send"))
        wait_until(lambda: threads(vault) > 20)
        assert usage(vault.process.pid)[1] < before[1] + 20 * 8 * 1024
        wait_until(lambda: threads(vault) == 1)
    assert usage(vault.process.pid)[0] <= before[0] + 2


@pytest.mark.parametrize("step", ["asking", "planning", "the end"])
def test_who_falls_silent_is_left_after_the_timeout(vault: Site, step: str) -> None:
    wait_until(lambda: threads(vault) == 1)
    with HandSender(vault) as getter:
        getter.say({"type": "get", "names": ["a/x"], "more": step == "asking"})
        if step == "the end":
            while not getattr(getter.channel.receive(), "files", ()):
                pass
            getter.say(planned("x", "send"))
        wait_until(lambda: threads(vault) > 1)
        wait_until(lambda: threads(vault) == 1)


def test_the_receiver_stops_though_somebody_gets_and_does_not_read(tmp_path: Path) -> None:
    options = ("--insecure-plaintext", "--no-fsync", "--access", "read", "--timeout", "3")
    with receiving(tmp_path, *options) as site:
        with (site.directory / "large").open("wb") as large:
            large.truncate(LARGE_BYTES)
        with HandSender(site) as getter:
            getter.say({"type": "get", "names": ["large"]})
            while not getattr(getter.channel.receive(), "files", ()):
                pass
            getter.say(planned("large", "send"))
            time.sleep(0.3)
            site.process.terminate()
            assert site.process.wait(15) == 0
    assert "Traceback" not in site.log.text


def test_the_room_that_others_have_is_not_taken_by_what_is_asked_for(vault: Site) -> None:
    """However many ask for large files and wait, who comes next gets what it asks for."""
    with contextlib.ExitStack() as opened:
        for _ in range(30):
            getter = opened.enter_context(HandSender(vault))
            getter.say({"type": "get", "names": ["large"]})
        assert gets(vault, "docs").files == {"docs/deep/file": SMALL}
