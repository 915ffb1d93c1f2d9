"""What a snapshot of many names costs beside the transfer: time and memory of each step.

    python -m tests.benchmarks.snapshots [NAMES]      a million unless told

Each step is a process of its own. The names are made up, so no file is read: the second run
skips all of them, and takes their digests from the first.
"""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from tests.storage.snapshots.nas import Nas
from xfer.storage.snapshots import stamps
from xfer.storage.snapshots.catalog import Catalog
from xfer.storage.snapshots.lines import DirectoryLine, FileLine, NameLine
from xfer.storage.snapshots.runs import RunHeader, open_run

CONFIRMED = "20261123T030002.123456Z"
RUNS = ["0" * 32, "1" * 32]
IN_A_DIRECTORY = 200
IN_A_BATCH = 100


def lines(names: int) -> Iterator[NameLine]:
    """Photos in albums, with digests as if they had been sent."""
    for number in range(names):
        album, photo = divmod(number, IN_A_DIRECTORY)
        above = f"photos/2026/album {album:05}"
        if photo == 0:
            yield DirectoryLine(name=above, mode=0o755, mtime_ns=10**18, confirmed=CONFIRMED)
            continue
        yield FileLine(
            name=f"{above}/IMG_{photo:04}.jpg",
            size=number * 7919 % 5_000_000,
            mtime_ns=10**18 + number,
            mode=0o644,
            md5=hashlib.md5(b"%d" % number).hexdigest(),
            confirmed=CONFIRMED,
            inode=10**6 + number,
        )


def record(nas: Nas, run: str, names: int, *, skipped: bool = False) -> None:
    """As a session does, a batch at a time."""
    found = lines(names)
    header = RunHeader(job="nightly", began=stamps.now())
    with open_run(nas.state, nas.key_id, run, header) as recorder:
        while batch := list(islice(found, IN_A_BATCH)):
            recorder.record([without_digest(line) for line in batch] if skipped else batch)


def without_digest(line: NameLine) -> NameLine:
    return replace(line, md5=None) if isinstance(line, FileLine) else line


def read_all(nas: Nas, names: int) -> None:
    catalog = Catalog(nas.state)
    (newest,) = catalog.newest_at("99991231T000000.000000Z")
    assert sum(1 for _ in catalog.lines(newest)) == names


def look_up(nas: Nas) -> None:
    catalog = Catalog(nas.state)
    found = catalog.last_there("photos/2026/album 00042/none", "9", lambda _done, _size: None)
    assert found is None


def measured(root: Path, step: Callable[[Nas], object]) -> tuple[float, float, float]:
    """Seconds, those of the processor, and MiB at the most, of a step in a process of its own."""
    start = time.monotonic()
    if not (process := os.fork()):
        try:
            step(Nas(root))
        except BaseException as error:  # noqa: BLE001
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit("a step failed")
    return time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    names = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    first, second = RUNS
    steps: dict[str, Callable[[Nas], object]] = {
        "nothing": lambda _: None,
        "record the run": lambda nas: record(nas, first, names),
        "commit it": lambda nas: nas.commit(first, names),
        "record it again, all skipped": lambda nas: record(nas, second, names, skipped=True),
        "commit that": lambda nas: nas.commit(second, names),
        "read all names": lambda nas: read_all(nas, names),
        "list the snapshots": lambda nas: list(Catalog(nas.state).snapshots()),
        "look a name up in both": look_up,
    }
    with tempfile.TemporaryDirectory() as directory:
        print(f"{names} names\n\n| step | s | processor | MiB |\n| --- | ---: | ---: | ---: |")
        for title, step in steps.items():
            seconds, busy, memory = measured(Path(directory), step)
            print(f"| {title} | {seconds:.2f} | {busy:.2f} | {memory:.0f} |", flush=True)
        sizes = [path.stat().st_size for path in Path(directory).rglob("*.jsonl.gz")]
        print(f"\nmanifests: {', '.join(f'{size / 2**20:.1f} MiB' for size in sizes)}")


if __name__ == "__main__":
    main()
