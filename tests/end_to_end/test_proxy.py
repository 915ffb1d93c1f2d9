"""Whatever a network does, a send ends in a verified file or in a clean error.

Most sends run in this process, where whatever is no XferError fails the test;
the exit codes of the command line are checked on a few.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import MIB, Site, assert_failed, receiving
from tests.support.proxy import Link, Proxy, Trouble, exit_code, link

SMALL = 100
LARGE = MIB + 300_000
SOON = 0.4
"""Seconds after which a sender gives up here; its receiver a little later."""
MODES: dict[str, list[str]] = {"TLS": [], "plaintext": ["--insecure-plaintext"]}
WAYS = ["up", "down"]


@pytest.fixture(scope="module", params=MODES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A receiver that has to survive everything, and to store nothing that was not sent."""
    with receiving(tmp_path_factory.mktemp("far"), "--timeout", "1", *MODES[request.param]) as site:
        yield site
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text
    assert "internal" not in site.log.text


@dataclass(frozen=True, slots=True)
class Trial:
    """One file that is sent through trouble, and then once more without any."""

    site: Site
    file: Path
    older: bytes | None = None

    def run(self, link: Link, timeout: float = SOON) -> int:
        """What the troubled send ended with. Fails if it left anything wrong."""
        new, name = self.file.read_bytes(), self.site.stored(self.file)
        with Proxy(self.site.port, [link]) as proxy:
            code = exit_code(proxy.leading_to(self.site), self.file, timeout=timeout)
        found = name.read_bytes() if name.exists() else None
        assert found in ((new,) if code == 0 else (new, self.older)), (link, code)
        assert exit_code(self.site, self.file, retry_for=10) == 0, link
        assert name.read_bytes() == new, link
        assert name.stat().st_mtime_ns == self.file.stat().st_mtime_ns, link
        assert self.site.versions(self.file) == ([] if self.older is None else [self.older]), link
        return code


def conversation(site: Site, file: Path, way: str) -> int:
    """How many bytes sending a file of that name's length and size takes, in one direction."""
    file.write_bytes(file.read_bytes()[::-1])
    with Proxy(site.port) as proxy:
        assert exit_code(proxy.leading_to(site), file) == 0
    return proxy.up if way == "up" else proxy.down


def make(path: Path, size: int) -> Path:
    path.write_bytes(random.Random(path.name).randbytes(size))
    return path


def codes(
    site: Site, directory: Path, way: str, size: int, trouble: Callable[[int], Trouble]
) -> list[int]:
    """How sends ended that met this trouble at positions all over the conversation."""
    total = conversation(site, make(directory / f"{directory.name}-000", size), way)
    count = 15 if size == SMALL else 4
    positions = sorted({total * number // count for number in range(count)} | {total - 1})

    def run(number: int) -> int:
        file = make(directory / f"{directory.name}-{number:03}", size)
        older = None
        if number % 2:
            older = b"older"
            newer = file.read_bytes()
            file.write_bytes(older)
            assert exit_code(site, file) == 0
            file.write_bytes(newer)
        met = trouble(positions[number - 1])
        return Trial(site, file, older).run(Link(**{way: met}))

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(run, range(1, len(positions) + 1)))


ENDINGS: dict[str, Callable[[int], Trouble]] = {
    "cut": lambda at: Trouble(cut_at=at),
    "reset": lambda at: Trouble(reset_at=at),
    "stall": lambda at: Trouble(stall_at=at),
}


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_connection_that_ends_anywhere_is_code_4_and_nothing_half(
    site: Site, tmp_path: Path, ending: str, way: str, size: int
) -> None:
    ended = codes(site, tmp_path, way, size, ENDINGS[ending])
    assert set(ended) <= {0, 4}
    assert ended[: len(ended) // 2] == [4] * (len(ended) // 2)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("way", WAYS)
def test_a_changed_bit_anywhere_is_an_error_and_no_wrong_content(
    site: Site, tmp_path: Path, way: str, size: int
) -> None:
    ended = codes(site, tmp_path, way, size, lambda at: Trouble(flip_at=at))
    if site.plaintext:  # where anything may be changed: a name, a limit, a time
        assert set(ended) <= {0, 3, 4, 5, 6}
    else:
        assert set(ended) <= {0, 3, 4, 5}
        assert 0 not in ended[:-2], "only the goodbyes do not matter"


SLOW: dict[str, Trouble] = {
    "in single bytes": Trouble(chunk=1),
    "slowly": Trouble(rate=5000),
    "late": Trouble(delay=0.2),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", SLOW)
def test_what_arrives_oddly_arrives_whole(site: Site, tmp_path: Path, how: str, way: str) -> None:
    trial = Trial(site, make(tmp_path / tmp_path.name, 1000))
    assert trial.run(Link(**{way: SLOW[how]}), timeout=20) == 0


def test_a_large_file_in_single_bytes_arrives_whole(site: Site, tmp_path: Path) -> None:
    trial = Trial(site, make(tmp_path / tmp_path.name, 20_000))
    assert trial.run(Link(Trouble(chunk=1), Trouble(chunk=1)), timeout=20) == 0


COMMANDS = {
    "cut in the opening": (link("up", cut_at=100), 4, "connection"),
    "cut in the body": (link("up", cut_at=MIB), 4, "connection"),
    "reset in the body": (link("up", reset_at=MIB), 4, "connection"),
    "a stall": (link("up", stall_at=MIB), 4, "kept silent for too long"),
    "a bit of the opening": (link("down", flip_at=20), 3, "does not open like a receiver"),
    "a bit of the body": (link("up", flip_at=MIB), 5, ""),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_the_command_line_ends_in_the_code_of_the_fault(
    site: Site, tmp_path: Path, case: str
) -> None:
    fault, code, sentence = COMMANDS[case]
    file = make(tmp_path / tmp_path.name, LARGE)
    with Proxy(site.port, [fault]) as proxy:
        done = proxy.leading_to(site).send("--json", "--timeout", str(SOON), file)
    assert_failed(done, code, sentence)
    *failed, summary = done.records
    assert [record["outcome"] for record in failed] == ([] if "opening" in case else ["failed"])
    assert all(record["retryable"] is (code != 3) for record in done.records)
    assert summary["exit_code"] == code
    assert exit_code(site, file, retry_for=10) == 0
    assert site.stored(file).read_bytes() == file.read_bytes()


def test_a_connection_cut_again_and_again_sends_every_byte_once(site: Site, tmp_path: Path) -> None:
    file = make(tmp_path / tmp_path.name, 10 * MIB)
    cuts = [
        link("up", cut_at=3 * MIB),
        link("down", cut_at=300),
        link("up", reset_at=2 * MIB + 77_777),
        link("up", reset_at=2 * MIB),
    ]
    with Proxy(site.port, cuts) as proxy:
        done = proxy.leading_to(site).send("--json", "--retry-for", "20", file)
    assert (done.code, proxy.connections) == (0, 5), done
    assert [record["type"] for record in done.records] == ["file", "summary"]
    assert done.err.count("trying again") == 4
    assert site.stored(file).read_bytes() == file.read_bytes()
    assert proxy.up <= 11 * MIB + 4 * 64 * 1024


def test_a_bit_changed_in_the_middle_costs_a_part_and_not_the_file(
    site: Site, tmp_path: Path
) -> None:
    file = make(tmp_path / tmp_path.name, 10 * MIB)
    with Proxy(site.port, [link("up", flip_at=8 * MIB)]) as proxy:
        assert exit_code(proxy.leading_to(site), file, retry_for=20) == 0
    assert site.stored(file).read_bytes() == file.read_bytes()
    assert proxy.up <= 15 * MIB, "what was verified before the fault travelled again"
