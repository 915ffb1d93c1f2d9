"""`xfer receive` with limits: refused in words, before and while a body is taken."""

import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import xfer
from tests.support.processes import (
    KEY,
    MIB,
    PATIENCE,
    SECRET,
    HandSender,
    Site,
    assert_failed,
    codes,
    finish,
    receiving,
    run,
    wait_until,
)
from tests.support.receivers import serving
from tests.support.trees import bytes_below
from xfer.auth.identity import certificate_binding, client_context
from xfer.auth.opening import prove_to_receiver
from xfer.wire.channel import Channel
from xfer.wire.messages import Plan

LIMIT = 100_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A receiver that takes small files only."""
    with receiving(tmp_path_factory.mktemp("small"), "--max-file-size", f"{LIMIT}") as site:
        yield site
    assert "Traceback" not in site.log.text


@pytest.mark.parametrize("option", ["--max-file-size", "--quota", "--min-free", "--min-rate"])
def test_an_option_with_a_wrong_size_is_named(tmp_path: Path, option: str) -> None:
    done = run(tmp_path, "receive", "--dir", tmp_path, option, "5X")
    assert_failed(done, 2, f"xfer: {option}: 5X is not a size")


def test_a_file_that_is_too_large_is_refused_before_it_travels(
    small: Site, tmp_path: Path, document: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(200 * MIB)
    done = small.send("--json", large, document)
    assert done.code == 7
    failed, stored, summary = done.records
    assert (failed["code"], failed["retryable"]) == ("too_large", False)
    assert failed["message"] == f"the receiver takes files of up to {LIMIT} bytes"
    assert (stored["outcome"], summary["bytes"]) == ("stored", 13)
    assert not small.stored(large).exists()
    alone = small.send(large)
    assert_failed(alone, 6, "xfer: large: the receiver takes files of up to")


def test_a_header_that_is_too_large_is_refused_and_the_session_goes_on(small: Site) -> None:
    with HandSender(small) as sender:
        sender.file("exact", bytes(LIMIT))
        sender.file("more", bytes(LIMIT + 1))
        sender.part("parts", bytes(LIMIT + 1), 0, 10)
        sender.file("next", b"abc")
        answers = sender.answers()
    assert sorted(codes(answers)) == [
        ("receipt", "stored"), ("receipt", "stored"),
        ("refusal", "too_large"), ("refusal", "too_large"),
    ]  # fmt: skip
    assert not small.stored("more").exists()
    assert small.partials() == []


def test_a_stream_is_refused_when_it_gets_too_large(small: Site) -> None:
    done = small.send("--json", "-", "--name", "stream", stdin=bytes(3 * MIB))
    assert done.code == 6
    assert done.records[0]["code"] == "too_large"
    assert not small.stored("stream").exists()
    assert small.partials() == []


def test_an_offer_is_refused_by_the_plan(small: Site) -> None:
    with HandSender(small) as sender:
        files = [{"file_name": "offered", "file_size": size} for size in (LIMIT, LIMIT + 1)]
        sender.say({"type": "offer", "files": files})
        answers = sender.answers()
    (plan,) = [answer for answer in answers if isinstance(answer, Plan)]
    assert [file.action for file in plan.files] == ["send", "refuse"]


def test_many_senders_at_once_stay_within_the_quota(tmp_path: Path) -> None:
    fit, senders = 5, 24
    with receiving(tmp_path, "--quota", f"{fit * LIMIT + 10}") as site:

        def send(number: int) -> list[tuple[str, str]]:
            with HandSender(site) as sender:
                body = bytes([number]) * LIMIT
                half = LIMIT // 2
                sender.part(f"{number}", body, 0, half)
                sender.part(f"{number}", body, half, LIMIT)
                return codes(sender.answers())

        with ThreadPoolExecutor(senders) as pool:
            answers = [answer for told in pool.map(send, range(senders)) for answer in told]
        assert bytes_below(site.directory) == fit * LIMIT
        assert sorted(answers) == [
            *fit * [("receipt", "stored")], *(senders - fit) * [("refusal", "quota")],
        ]  # fmt: skip
        assert site.partials() == []


def test_streams_of_unknown_size_stay_within_the_quota(tmp_path: Path) -> None:
    quota = 4 * MIB
    with receiving(tmp_path, "--quota", "4M") as site:
        sending = [site.start_send("--json", "-", "--name", f"{n}") for n in range(3)]
        with ThreadPoolExecutor(3) as pool:
            ended = list(pool.map(lambda process: finish(process, bytes(3 * MIB)), sending))
        stored = [done for done in ended if done.code == 0]
        assert len(stored) <= 1
        assert {done.records[0].get("code") for done in ended if done.code} <= {"quota"}
        assert bytes_below(site.directory) == len(stored) * 3 * MIB <= quota
        assert site.partials() == []


def test_what_continues_is_within_the_quota_too(tmp_path: Path) -> None:
    whole, other = bytes(LIMIT), bytes([1]) * (LIMIT // 2)
    with receiving(tmp_path, "--quota", f"{LIMIT + LIMIT // 4}") as site:
        with HandSender(site) as sender:
            sender.part("resumed", whole, 0, LIMIT // 2)
            sender.file("null", other + whole, file_size=None, length=len(other + whole))
            assert codes(sender.answers()) == [("refusal", "quota")]
        wait_until(lambda: site.partials() == [LIMIT // 2])
        with HandSender(site) as sender:
            sender.file("other", other)
            sender.part("resumed", whole, LIMIT // 2, LIMIT)
            assert sorted(codes(sender.answers())) == [("receipt", "stored"), ("refusal", "quota")]
        assert bytes_below(site.directory) == len(other)


def test_a_full_quota_is_exit_6_and_the_rest_goes(tmp_path: Path, document: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(2 * MIB))
    with receiving(tmp_path, "--quota", "1M") as site:
        done = site.send("--json", large)
        assert done.code == 6
        assert (done.records[0]["code"], done.records[0]["retryable"]) == ("quota", False)
        assert site.send(document).code == 0
        assert site.send(large, document).code == 7
    assert sorted(os.listdir(site.directory)) == [".xfer", document.name]


def test_max_files_holds_for_files_directories_and_links(tmp_path: Path) -> None:
    with receiving(tmp_path, "--max-files", "3") as site:
        with HandSender(site) as sender:
            sender.file("a/b", b"x")
            sender.say({"type": "symlink", "file_name": "link", "target": "a"})
            sender.say({"type": "directory", "file_name": "a"})
            sender.say({"type": "directory", "file_name": "c"})
            sender.file("d", b"y")
            answers = sender.answers()
        assert sorted(codes(answers)) == [
            ("receipt", "stored"), ("receipt", "stored"), ("receipt", "stored"),
            ("refusal", "quota"), ("refusal", "quota"),
        ]  # fmt: skip
        with HandSender(site) as another:
            another.file("d", b"y")
            assert codes(another.answers()) == [("receipt", "stored")]
    assert sorted(os.listdir(site.directory)) == [".xfer", "a", "d", "link"]


def test_min_free_leaves_the_disk_alone(tmp_path: Path, document: Path) -> None:
    with receiving(tmp_path, "--min-free", "8000P") as site:
        done = site.send("--json", document)
    assert (done.code, done.records[0]["code"]) == (6, "no_space")
    assert not site.stored(document).exists()


def test_the_welcome_states_the_largest_size(small: Site, nas: Site) -> None:
    def stated(site: Site) -> int | None:
        channel = Channel(socket.create_connection(("127.0.0.1", site.port), PATIENCE), PATIENCE)
        try:
            channel.start_tls(client_context(), server_side=False)
            binding = certificate_binding(channel.peer_certificate())
            return prove_to_receiver(channel, KEY, binding).max_file_size
        finally:
            channel.close()

    assert (stated(small), stated(nas)) == (LIMIT, None)


def test_the_library_takes_limits_too(tmp_path: Path) -> None:
    limits = xfer.Limits(max_file_size=5)
    (tmp_path / "six").write_bytes(b"123456")
    with serving(tmp_path, limits=limits) as (_, host), pytest.raises(xfer.Refused) as refused:
        xfer.send([str(tmp_path / "six")], host, secret=SECRET)
    assert refused.value.code == "too_large"
    assert re.search("up to 5 bytes", refused.value.message)
