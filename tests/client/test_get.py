"""`get`, as a program calls it: results, progress, errors, and what is asked for."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import SECRET
from xfer.client.get import get
from xfer.client.progress import SendProgress
from xfer.client.restored import Asked
from xfer.errors import Cancelled, Incomplete, LocalError, Refused, UsageError
from xfer.outcomes import Outcome
from xfer.server.receiver import Receiver
from xfer.wire.cancel import CancelToken


@pytest.fixture
def back(tmp_path: Path) -> Path:
    directory = tmp_path / "back"
    directory.mkdir()
    return directory


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """The directory of a receiver, with something in it."""
    directory = tmp_path / "held"
    (directory / "docs" / "below").mkdir(parents=True)
    (directory / "docs" / "a.txt").write_bytes(b"what matters\n")
    (directory / "docs" / "below" / "link").symlink_to("../a.txt")
    return directory


@pytest.fixture
def host(held: Path, tmp_path: Path) -> Iterator[str]:
    with Receiver(
        held, secret=SECRET, access="read", bind="127.0.0.1", port=0, state_directory=tmp_path / "s"
    ) as receiver:
        serving = threading.Thread(target=receiver.serve_forever)
        serving.start()
        try:
            yield "{}:{}".format(*receiver.address)
        finally:
            receiver.stop()
            serving.join()


def test_it_returns_a_result_for_each_file_directory_and_link(host: str, back: Path) -> None:
    results = {result.name: result for result in get("docs", host, to=back, secret=SECRET)}
    assert results.keys() == {"docs", "docs/a.txt", "docs/below", "docs/below/link"}
    file = results["docs/a.txt"]
    assert (file.outcome, file.size, len(file.digest)) == (Outcome.STORED, 13, 32)
    assert (back / "docs" / "a.txt").read_bytes() == b"what matters\n"
    again = {result.outcome for result in get("docs", host, to=back, secret=SECRET)}
    assert again == {Outcome.UNCHANGED}


def test_a_directory_of_this_machine_needs_no_receiver(held: Path, back: Path) -> None:
    seen: list[SendProgress] = []
    results = get(["docs/a.txt"], directory=held, to=back, checksum="blake3", progress=seen.append)
    assert [(result.name, len(result.digest)) for result in results] == [("a.txt", 64)]
    assert seen
    assert sorted(path.name for path in held.iterdir()) == ["docs"]  # nothing was made there


def test_what_is_not_there_is_raised_with_what_has_come(held: Path, back: Path) -> None:
    with pytest.raises(Refused, match="there is no nowhere"):
        get("nowhere", directory=held, to=back)
    with pytest.raises(Incomplete) as raised:
        get(["nowhere", "docs/a.txt"], directory=held, to=back)
    assert [result.name for result in raised.value.receipts] == ["a.txt"]
    assert [result.name for result in raised.value.failures] == ["nowhere"]


def test_what_makes_no_sense_is_a_usage_error(held: Path, back: Path) -> None:
    with pytest.raises(UsageError, match="one host, or one directory"):
        get("docs", to=back)
    with pytest.raises(UsageError, match="one host, or one directory"):
        get("docs", "nas", directory=held, to=back)
    with pytest.raises(UsageError, match="nothing to get"):
        get([], directory=held, to=back)
    with pytest.raises(LocalError, match="cannot read"):
        get("docs", directory=held / "nowhere", to=back)


def test_a_cancelled_get_says_so_and_leaves_nothing_half(host: str, back: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        get("docs", host, to=back, secret=SECRET, cancel=token)
    assert list(back.iterdir()) == []


@pytest.mark.parametrize("name", [".", "./", "./.", ""])
def test_everything_is_asked_for_by_a_point(name: str) -> None:
    asked = Asked([name])
    assert asked.covers("anything/at all")
    assert asked.own_names == frozenset()


def test_only_what_was_asked_for_and_what_is_below_it_is_covered() -> None:
    asked = Asked(["docs/old/", "./a.txt", "a.txt"])
    assert asked.names == ["docs/old", "a.txt"]
    covered = ["old", "old/x", "old/x/y", "a.txt"]
    others = ["docs", "docs/old", "older", "x/old", "a.txt2", "", "/old", "../old"]
    assert [name for name in covered + others if asked.covers(name)] == covered
