"""Whatever happens to a directory: each line of a snapshot is given back, or said to be missing.

Histories are random: two clients of the same names, with snapshots and without, at once or
one after the other; the owner removes and changes files and versions; the clock of the
receiver, a real process, jumps. A history is repeated by its seed, which a failure prints.
"""

import hashlib
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xfer
from tests.support.processes import Site, receiving
from tests.support.snapshots import lines_in, manifests
from xfer.sending.observer import Observer, Result

SECRETS: Final = {"one": f"xfer-key-{43 * 'B'}", "two": f"xfer-key-{43 * 'C'}"}
NAMES: Final = ("a", "b", "d", "d/x", "d/y", "d/e/z")
JUMPING_CLOCK: Final = """
import datetime

class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        with open({path!r}) as file:
            return real.now(tz) + datetime.timedelta(hours=int(file.read() or 0))

real, datetime.datetime = datetime.datetime, Jumping
"""
times: Final = itertools.count(1_700_000_000_000_000_000, 1_000_000_001)
totals = {"histories": 0, "snapshots": 0, "lines": 0, "missing": 0, "wrong": 0, "incomplete": 0}


class Results(Observer):
    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    def finished(self, result: Result) -> None:
        if result.error:
            self.failed[result.name] = result.error.code


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A receiver whose clock is ahead by the hours that are in its home's file `hours`."""
    home = tmp_path_factory.mktemp("hub")
    keys = home / "keys"
    keys.touch(0o600)
    keys.write_text(
        f'[one]\nsecret = "{SECRETS["one"]}"\naccess = "read-write"\n'
        f'[two]\nsecret = "{SECRETS["two"]}"\naccess = "read-write"\ngone = "version"\n'
    )
    (home / "hours").touch()
    (home / "sitecustomize.py").write_text(JUMPING_CLOCK.format(path=str(home / "hours")))
    options = ("--keys", str(keys), "--insecure-plaintext")
    with receiving(home, *options, secret=None, prefix=["env", f"PYTHONPATH={home}"]) as site:
        yield site
    assert "Traceback" not in site.log.text


class History:
    """What two clients have, what the owner does, and what each snapshot has to give back."""

    def __init__(self, hub: Site, home: Path, drawn: random.Random) -> None:
        self.hub = hub
        self.drawn = drawn
        self.top = f"h{totals['histories']}"
        self.home = home
        self.sources = {key_id: home / key_id / self.top for key_id in SECRETS}
        self.jobs = {key_id: f"{self.top}-{key_id}" for key_id in SECRETS}
        self.sent: dict[tuple[str, str], dict[str, bytes]] = {}
        """By key and stamp: the contents that its client had."""
        self.edited: set[str] = set()
        """What the owner changed, keeping its time: who skips such a file trusts the time."""
        for source in self.sources.values():
            source.mkdir(parents=True)

    def run(self) -> None:
        steps: list[Callable[[], object]] = [
            *(2 * [self.edit, self.edit, self.send]),
            *(self.send_both, self.by_hand, self.by_hand, self.jump),
        ]
        for _ in range(self.drawn.randrange(5, 25)):
            self.drawn.choice(steps)()
        for key_id in SECRETS:
            self.send(key_id, with_snapshot=True)
        self.check()
        self.clean_up()

    def clean_up(self) -> None:
        """So that the next history is as quick."""
        state = self.hub.directory / ".xfer"
        jobs = [state / "snapshots" / key_id / self.jobs[key_id] for key_id in SECRETS]
        for path in (self.hub.directory / self.top, state / "versions" / self.top, *jobs):
            shutil.rmtree(path, ignore_errors=True)

    def content(self) -> bytes:
        """Of one size and of few kinds, so that many are alike from outside."""
        return b"%d" % self.drawn.randrange(100, 120)

    def edit(self) -> None:
        source = self.sources[self.drawn.choice(list(SECRETS))]
        path = source / self.drawn.choice(NAMES)
        for above in path.parents:
            if above.is_file():
                above.unlink()
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if self.drawn.random() < 0.8:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.content())
            time = next(times)
            os.utime(path, ns=(time, time))

    def send(self, key_id: str = "", *, with_snapshot: bool | None = None) -> None:
        key_id = key_id or self.drawn.choice(list(SECRETS))
        if with_snapshot is None:
            with_snapshot = self.drawn.random() < 0.7
        source = self.sources[key_id]
        job = self.jobs[key_id] if with_snapshot else None
        contents = contents_below(source)
        known = set(self.manifests(key_id))
        refused = ""
        try:
            xfer.send(
                str(source), self.hub.host, secret=SECRETS[key_id], key_id=key_id, snapshot=job,
                insecure_plaintext=True, connections=1,
            )  # fmt: skip
        except xfer.XferError as error:
            refused = str(error)
        if with_snapshot:
            (made,) = set(self.manifests(key_id)) - known
            # The other client, at once, can give a file that was skipped another time.
            assert (".incomplete" in made.name) == ("does not find the content" in refused)
            totals["incomplete"] += ".incomplete" in made.name
            self.sent[key_id, made.name.removesuffix(".jsonl.gz")] = contents
        else:
            assert not refused

    def send_both(self) -> None:
        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(self.send, key_id) for key_id in SECRETS]:
                done.result()

    def manifests(self, key_id: str) -> list[Path]:
        return list(manifests(self.hub, key_id, self.jobs[key_id]))

    def by_hand(self) -> None:
        """The owner removes or changes a file, a directory or a version."""
        shown = self.hub.directory / self.top
        kept = self.hub.directory / ".xfer/versions" / self.top
        found = [path for root in (shown, kept) for path in sorted(root.rglob("*"))]
        if not found:
            return
        path = self.drawn.choice(found)
        if self.drawn.random() < 0.5 or not path.is_file():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            return
        before = path.stat()
        path.write_bytes(self.content())
        if self.drawn.random() < 0.5:
            os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
            self.edited.add(path.relative_to(shown).as_posix() if shown in path.parents else "")

    def jump(self) -> None:
        hours = self.drawn.choice([-30_000, -100, -1, 0, 1, 100, 30_000])
        (self.hub.home / "hours").write_text(str(hours))

    # What comes back

    def check(self) -> None:
        for key_id in SECRETS:
            for path in self.manifests(key_id):
                if ".incomplete" not in path.name:
                    self.check_snapshot(key_id, path)

    def check_snapshot(self, key_id: str, manifest: Path) -> None:
        stamp = manifest.name.removesuffix(".jsonl.gz")
        to = self.home / "out"
        to.mkdir()
        failed = self.get(stamp, to)
        sent = self.sent[key_id, stamp]
        lines = lines_in(manifest)
        files = {line["name"].partition("/")[2]: line for line in lines if line["type"] == "file"}
        assert files.keys() == sent.keys()
        totals["snapshots"] += 1
        for line in lines:
            totals["lines"] += 1
            path = to / line["name"]
            if line["type"] == "directory":
                totals["wrong"] += not path.is_dir()
            elif line["name"] in failed:
                totals["missing"] += 1
                assert failed[line["name"]] == "not_found"
                assert line["md5"] not in self.all_digests(line["name"])
            else:
                totals["wrong"] += not self.is_right(path, line, sent)
        assert totals["wrong"] == 0, (stamp, lines, failed)
        shutil.rmtree(to)

    def is_right(self, path: Path, line: dict[str, Any], sent: dict[str, bytes]) -> bool:
        content = path.read_bytes()
        own = line["name"].partition("/")[2]
        right = hashlib.md5(content).hexdigest() == line["md5"]
        return right and (content == sent[own] or own in self.edited)

    def get(self, stamp: str, to: Path) -> dict[str, str]:
        """What failed, by name, with its code."""
        results = Results()
        error = None
        try:
            xfer.get(
                self.top, self.hub.host, at=stamp, to=to, secret=SECRETS["one"], key_id="one",
                insecure_plaintext=True, progress=results,
            )  # fmt: skip
        except xfer.XferError as raised:
            error = raised
        assert bool(error) == bool(results.failed), error
        return results.failed

    def all_digests(self, name: str) -> set[str]:
        """Of all that has this name or had it, by a look at the directory alone."""
        parts = name.split("/")
        patterns = ["/".join([*parts[:n], "*Z", *parts[n:]]) for n in range(1, len(parts) + 1)]
        kept = self.hub.directory / ".xfer/versions"
        paths = [self.hub.directory / name, *(path for one in patterns for path in kept.glob(one))]
        return {hashlib.md5(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def contents_below(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def try_history(hub: Site, tmp_path: Path, seed: int) -> None:
    home = tmp_path / "history"
    shutil.rmtree(home, ignore_errors=True)
    (hub.home / "hours").write_text("0")
    totals["histories"] += 1
    History(hub, home, random.Random(seed)).run()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=12,
)
@given(st.integers(0, 2**32))
def test_every_line_of_a_random_history_comes_back_or_is_missing(
    hub: Site, tmp_path: Path, seed: int
) -> None:
    try_history(hub, tmp_path, seed)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_every_line_of_hundreds_of_histories_comes_back_or_is_missing(
    hub: Site, tmp_path: Path
) -> None:
    for seed in range(int(os.environ.get("XFER_HISTORIES", "300"))):
        print(f"seed {seed}", end="\r", flush=True)
        try_history(hub, tmp_path, seed)
    print(totals)
    assert totals["lines"] > 10 * totals["histories"]
