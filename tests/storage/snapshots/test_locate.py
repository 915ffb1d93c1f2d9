"""The content of a line is found where it is now, or it is told to be nowhere: never another's.

Histories are random: sends, sends by others, changes and deletions by hand, clocks that jump.
"""

import datetime
import os
import random
import shutil
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.storage.snapshots.nas import Nas, lines_of
from xfer.storage.posix import versions
from xfer.storage.snapshots import stamps
from xfer.storage.snapshots.contents import Reader
from xfer.storage.snapshots.lines import FileLine, NameLine
from xfer.storage.snapshots.locate import Locator


def no_beat(done: int, size: int) -> None:
    pass


@pytest.fixture
def nas(root: Path) -> Iterator[Nas]:
    made = Nas(root)
    yield made
    made.close()


def content_of(reader: Reader) -> bytes:
    view = memoryview(bytearray(reader.size))
    assert reader.read_at(0, view) == reader.size
    reader.close()
    return bytes(view)


def located(nas: Nas, line: FileLine) -> tuple[bytes, bool] | None:
    """Its content, and whether that is a version."""
    found = Locator(nas.contents, no_beat).locate(line)
    return (content_of(found.reader), found.version is not None) if found else None


def test_it_is_under_its_name_then_among_the_versions_then_nowhere(nas: Nas, root: Path) -> None:
    line = nas.file("d/a", b"1")
    assert located(nas, line) == (b"1", False)
    nas.file("d/a", b"2")
    assert located(nas, line) == (b"1", True)
    nas.file("d", b"a file")
    assert located(nas, line) == (b"1", True)
    shutil.rmtree(root / ".xfer/versions/d")
    assert located(nas, line) is None


def test_it_is_found_in_a_directory_that_became_a_file(nas: Nas) -> None:
    line = nas.file("d/e/a", b"1")
    nas.file("d", b"a file")
    assert located(nas, line) == (b"1", True)


def test_a_file_that_looks_the_same_and_is_not_is_not_taken_for_it(nas: Nas, root: Path) -> None:
    line = nas.file("a", b"1")
    status = (root / "a").stat()
    with open(root / "a", "r+b") as file:
        file.write(b"2")
    os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert nas.contents.look("a") is not None
    assert located(nas, line) is None


def test_a_copy_with_another_inode_and_time_is_as_good(nas: Nas, root: Path) -> None:
    line = nas.file("a", b"1")
    (root / "a").unlink()
    (root / "a").write_bytes(b"1")
    os.utime(root / "a", ns=(1, 1))
    assert located(nas, line) == (b"1", False)


@pytest.mark.parametrize("planted", ["link", "fifo", "directory"])
def test_what_is_no_plain_file_is_never_opened(nas: Nas, root: Path, planted: str) -> None:
    line = nas.file("a", b"1")
    (root / "a").rename(root / "elsewhere")
    match planted:
        case "link":
            (root / "a").symlink_to("elsewhere")
        case "fifo":
            os.mkfifo(root / "a")
        case _:
            (root / "a").mkdir()
    assert located(nas, line) is None


def test_the_time_it_was_confirmed_says_which_of_many_versions_is_read_first(nas: Nas) -> None:
    lines = [nas.file("a", b"%02d" % number) for number in range(20)]
    copies = [replace(line, inode=1) for line in lines[:-1]]  # as from a backup of the disk
    for number, line in enumerate(copies):
        locator = Locator(nas.contents, no_beat)
        found = locator.locate(line)
        assert found
        assert content_of(found.reader) == b"%02d" % number
        assert locator.tried == 1


def test_a_version_that_is_made_while_it_is_looked_for_is_found(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = replace(nas.file("a", b"1"), inode=1)
    kept = nas.contents.versions

    def replaced_after_the_look(name: str) -> object:
        monkeypatch.undo()
        found = kept(name)
        nas.file("a", b"2")
        return found

    monkeypatch.setattr(nas.contents, "versions", replaced_after_the_look)
    assert located(nas, line) == (b"1", True)


# random histories


class Clock:
    """Stands for the module `datetime`: tells the time that a test wants it to be."""

    UTC = datetime.UTC
    timedelta = datetime.timedelta

    def __init__(self) -> None:
        self.moment = datetime.datetime(2026, 11, 23, 3, tzinfo=datetime.UTC)
        self.datetime = types.SimpleNamespace(now=self.now, strptime=datetime.datetime.strptime)

    def now(self, _: object) -> datetime.datetime:
        self.moment += datetime.timedelta(microseconds=7)
        return self.moment

    def jump(self, hours: int) -> None:
        self.moment += datetime.timedelta(hours=hours)


class History:
    """What was sent, what the snapshots must say of it, and what has become of the directory."""

    NAMES = ("a", "b", "d", "d/x", "d/y", "d/e/z")

    def __init__(self, nas: Nas, clock: Clock, drawn: random.Random) -> None:
        self.nas = nas
        self.clock = clock
        self.drawn = drawn
        self.source: dict[str, bytes] = {}
        self.expected: dict[tuple[str, str], bytes] = {}
        """By snapshot and name: the content that the client had receipts for."""
        self.overwritten: set[str] = set()
        """What the owner changed, and set its time back: who skips such a file trusts the time."""
        self.tried = self.missing = self.wrong = 0

    def content(self) -> bytes:
        """Of few sizes, so that many are alike from outside."""
        return b"%d" % self.drawn.randrange(100, 130)

    def run(self) -> None:
        for _ in range(self.drawn.randrange(3, 25)):
            step: Callable[[], object] = self.drawn.choice(
                [self.edit, self.edit, self.send, self.send, self.foreign, self.by_hand, self.jump]
            )
            step()
        self.send()
        self.check()

    def edit(self) -> None:
        """The client's files change; a name can become a directory, or the other way round."""
        name = self.drawn.choice(self.NAMES)
        for other in list(self.source):
            if f"{other}/".startswith(f"{name}/") or f"{name}/".startswith(f"{other}/"):
                del self.source[other]
        if self.drawn.random() < 0.8:
            self.source[name] = self.content()

    def send(self) -> None:
        lines: list[NameLine] = []
        sent: dict[str, bytes] = {}
        for name, content in sorted(self.source.items()):
            lines.append(self.line(name, content))
            sent[name] = content
            if self.drawn.random() < 0.1:
                self.foreign()  # while the run is under way
        moves = self.drawn.random() < 0.3
        run = self.nas.record(lines)
        done = self.nas.commit(run, len(lines), gone_to_versions=moves)
        if done.footer.complete:
            self.expected |= {(done.stamp, name): content for name, content in sent.items()}

    def line(self, name: str, content: bytes) -> FileLine:
        path = self.nas.root / name
        is_same = path.is_file() and path.read_bytes() == content and name not in self.overwritten
        if is_same and self.drawn.random() < 0.7:
            return replace(self.nas.skip(name), confirmed=stamps.now())
        return self.nas.file(name, content)

    def foreign(self) -> None:
        """Another key sends, without a snapshot."""
        name = self.drawn.choice(self.NAMES)
        self.nas.file(name, self.content())

    def by_hand(self) -> None:
        """The owner removes, changes or copies a file, a directory or a version."""
        path = self.nas.root / self.drawn.choice([*self.NAMES, *self.kept()])
        action = self.drawn.choice(["remove", "overwrite", "copy"])
        if action == "remove" and path.is_dir():
            shutil.rmtree(path)
        elif not path.is_file():
            return
        elif action == "remove":
            path.unlink()
        elif action == "overwrite":
            status = path.stat()
            path.write_bytes(self.content())
            os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
            self.overwritten.add(path.relative_to(self.nas.root).as_posix())
        else:
            shutil.copy2(path, path.with_name("copied"))
            os.replace(path.with_name("copied"), path)

    def kept(self) -> list[str]:
        found = (self.nas.root / ".xfer/versions").rglob("*Z")
        return sorted(path.relative_to(self.nas.root).as_posix() for path in found)

    def jump(self) -> None:
        self.clock.jump(self.drawn.choice([-100, -1, 0, 1, 100, 10_000]))

    def check(self) -> None:
        for path in self.nas.manifests():
            if ".incomplete" not in path.name:
                for line in lines_of(path):
                    assert isinstance(line, FileLine)
                    self.check_line(path.name.removesuffix(".jsonl.gz"), line)

    def check_line(self, stamp: str, line: FileLine) -> None:
        self.tried += 1
        expected = self.expected[stamp, line.name]
        found = located(self.nas, line)
        if found is None:
            self.missing += 1
            assert expected not in self.all_that_had(line.name)
        elif found[0] != expected:
            self.wrong += 1

    def all_that_had(self, name: str) -> list[bytes]:
        """The content of all that has this name or had it, by a look at the directory alone."""
        parts = name.split("/")
        patterns = ["/".join([*parts[:n], "*Z", *parts[n:]]) for n in range(1, len(parts) + 1)]
        kept = self.nas.root / ".xfer/versions"
        paths = [self.nas.root / name, *(path for one in patterns for path in kept.glob(one))]
        return [path.read_bytes() for path in paths if path.is_file() and not path.is_symlink()]


totals = {"lines": 0, "missing": 0, "wrong": 0}


def try_history(root: Path, seed: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    clock = Clock()
    with pytest.MonkeyPatch.context() as patched:
        for module in (stamps, versions):
            patched.setattr(module, "datetime", clock)
        nas = Nas(root, durable=False)
        try:
            history = History(nas, clock, random.Random(seed))
            history.run()
        finally:
            nas.close()
    totals["lines"] += history.tried
    totals["missing"] += history.missing
    totals["wrong"] += history.wrong
    assert history.wrong == 0


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=40,
)
@given(st.integers(0, 2**32))
@pytest.mark.timeout(300)
def test_every_line_of_a_random_history_is_found_or_nowhere(tmp_path: Path, seed: int) -> None:
    try_history(tmp_path / "history", seed)


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_no_line_of_thousands_of_histories_gets_another_content(tmp_path: Path) -> None:
    for seed in range(3000):
        try_history(tmp_path / "history", seed)
    print(totals)
    assert totals["lines"] > 10_000
