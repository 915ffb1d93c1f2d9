"""Silence is given up, slowness is not, and work that takes long says so."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import MIB, HandSender, Site, assert_failed, receiving, wait_until
from tests.support.proxy import Link, Proxy, Trouble, exit_code, link

GIB = 1024 * MIB
SILENT = "the other side kept silent for too long"
MODES: dict[str, list[str]] = {"TLS": [], "plaintext": ["--insecure-plaintext"]}


@pytest.fixture(scope="module", params=MODES)
def hasty(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A receiver that waits for a second."""
    with receiving(
        tmp_path_factory.mktemp("hasty"), "--timeout", "1", *MODES[request.param]
    ) as site:
        yield site
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text


def measured(site: Site, file: Path) -> tuple[int, int]:
    """How many bytes sending a small file takes, up and down."""
    with Proxy(site.port) as proxy:
        assert exit_code(proxy.leading_to(site), file) == 0
    return proxy.up, proxy.down


@pytest.mark.parametrize("way", ["up", "down"])
def test_silence_at_any_step_is_given_up_by_both_sides(
    hasty: Site, document: Path, way: str
) -> None:
    total = measured(hasty, document)[way == "down"]
    document.write_bytes(b"something else")
    known = hasty.log.text.count(SILENT)

    def seconds_until_given_up(position: int) -> float:
        began = time.monotonic()
        with Proxy(hasty.port, [link(way, stall_at=position)]) as proxy:
            assert exit_code(proxy.leading_to(hasty), document, timeout=0.7) == 4
            given_up = time.monotonic() - began
            if way == "up":  # the receiver comes to it by itself
                time.sleep(1)
        return given_up

    positions = [total * eighth // 8 for eighth in range(7)]
    with ThreadPoolExecutor(len(positions)) as pool:
        assert max(pool.map(seconds_until_given_up, positions)) < 4
    if way == "up":
        wait_until(lambda: hasty.log.text.count(SILENT) >= known + len(positions) - 1)
    assert exit_code(hasty, document, retry_for=5) == 0
    assert hasty.stored(document).read_bytes() == b"something else"


def test_an_opening_that_the_receiver_gave_up_can_be_tried_again(
    hasty: Site, document: Path
) -> None:
    """The receiver's last words must not pass for those of a stranger."""
    with Proxy(hasty.port, [link("up", stall_at=0)]) as proxy:
        done = proxy.leading_to(hasty).send("--json", document)
    assert_failed(done, 4, "")
    assert done.records[-1]["retryable"] is True


def test_a_stall_in_the_middle_is_given_up_by_the_sender(nas: Site, tmp_path: Path) -> None:
    file = tmp_path / tmp_path.name
    file.write_bytes(os.urandom(8 * MIB))
    with Proxy(nas.port, [link("up", stall_at=3 * MIB)]) as proxy:
        assert_failed(proxy.leading_to(nas).send("--timeout", "1", file), 4, SILENT)
    assert exit_code(nas, file, retry_for=5) == 0
    assert nas.stored(file).read_bytes() == file.read_bytes()


def test_a_stall_in_the_middle_is_given_up_by_the_receiver(hasty: Site, tmp_path: Path) -> None:
    file = tmp_path / tmp_path.name
    file.write_bytes(os.urandom(8 * MIB))
    known = hasty.log.text.count(SILENT)
    with Proxy(hasty.port, [link("up", stall_at=3 * MIB)]) as proxy:
        assert_failed(proxy.leading_to(hasty).send(file), 4, SILENT)
    wait_until(lambda: hasty.log.text.count(SILENT) == known + 1)
    assert exit_code(hasty, file, retry_for=5) == 0
    assert hasty.stored(file).read_bytes() == file.read_bytes()


def test_a_receipt_that_never_comes_is_given_up_and_found_the_next_time(
    hasty: Site, document: Path
) -> None:
    stall = measured(hasty, document)[1] - 150
    document.write_bytes(b"the new one.\n")
    with Proxy(hasty.port, [link("down", stall_at=stall)]) as proxy:
        assert_failed(proxy.leading_to(hasty).send("--timeout", "1", document), 4, SILENT)
    again = hasty.send("--json", "--retry-for", "5", document)
    assert (again.code, again.records[0]["outcome"]) == (0, "unchanged")
    assert hasty.stored(document).read_bytes() == b"the new one.\n"


@pytest.mark.parametrize(
    ("timeout", "size"),
    [
        ("60", 12_000),
        pytest.param("2", 32_000, marks=pytest.mark.exhaustive),
    ],
)
def test_slow_but_moving_is_left_alone(
    hasty: Site, tmp_path: Path, timeout: str, size: int
) -> None:
    """What systems on the way still hold gets there, although nobody answers yet."""
    file = tmp_path / tmp_path.name
    file.write_bytes(os.urandom(size))
    with Proxy(hasty.port, [link("up", rate=8_000)]) as proxy:
        done = proxy.leading_to(hasty).send("--timeout", timeout, file)
    assert (done.code, done.err.count(SILENT)) == (0, 0), done
    assert hasty.stored(file).read_bytes() == file.read_bytes()


def test_slow_answers_are_left_alone(hasty: Site, tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{tmp_path.name}-{number}").write_bytes(b"content")
    files = sorted(tmp_path.iterdir())
    with Proxy(hasty.port, [Link(down=Trouble(rate=1500))]) as proxy:
        done = proxy.leading_to(hasty).send("--timeout", "1", *files)
    assert done.code == 0, done


@pytest.mark.exhaustive
@pytest.mark.timeout(180)
def test_hashing_for_longer_than_the_timeout_loses_no_connection(tmp_path: Path) -> None:
    """Both sides hash what is there, one after the other; each keeps the other one waiting."""
    size = 4 * GIB
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.truncate(size)
        opened.seek(size)
        opened.write(b"the end")
    with receiving(tmp_path, "--timeout", "3") as site:
        with HandSender(site) as sender:
            sender.part(file.name, bytes(MIB), 0, MIB - 1)
        site.log.wait_for("large: interrupted")
        (partial,) = (site.directory / ".xfer" / "partials").iterdir()
        os.truncate(partial, size)
        process = site.start_send("--timeout", "3", file)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err.count(SILENT.encode())) == (0, 0), err
        assert site.stored(file).stat().st_size == size + len(b"the end")
        site.stored(file).unlink()
