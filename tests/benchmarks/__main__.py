"""Run the benchmarks and print what came out."""

import contextlib
import datetime
import os
import resource
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import clients, latency, machine, plot, works
from tests.benchmarks.contender import Workspace
from tests.benchmarks.options import CLIENTS, LATENCY, Options, parse
from tests.benchmarks.processes import BenchmarkError
from tests.benchmarks.report import Report
from tests.benchmarks.results import WorkResult
from tests.benchmarks.rounds import Field, field_of, take_turns, tell


def main() -> int:
    """Measure and print. Returns the exit code: 1 if something failed, 130 if interrupted."""
    options = parse()
    # A shell starts background jobs with SIGINT ignored, and SIGTERM would leave children behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        if options.plot:
            plot.require_matplotlib()
        with _workspace(options) as workspace:
            report = _measure(workspace, options)
        print(report.markdown())
        if options.json:
            report.write_json(options.json)
        if options.plot:
            plot.draw(report.works, options.plot)
    except (BenchmarkError, OSError) as error:
        tell(f"benchmarks: {error}")
        return 1
    except KeyboardInterrupt:
        tell("benchmarks: interrupted")
        return 130
    return 0


def _measure(workspace: Workspace, options: Options) -> Report:
    report = Report(
        machine=machine.describe(workspace.directory),
        date=f"{datetime.date.today():%Y-%m-%d}",
        command=shlex.join(["python", "-m", "tests.benchmarks", *sys.argv[1:]]),
        rounds=options.rounds,
    )
    letters = [name for name in options.only if name not in (LATENCY, CLIENTS)]
    if letters:
        with field_of(workspace, options.xfers, options.contenders) as field:
            report.left_out.update(field.left_out)
            for letter in letters:
                report.works.append(_measure_work(workspace, field, letter, options))
    if LATENCY in options.only:
        measured = latency.measure(workspace, options.xfers, options.rounds, options.scale)
        report.latency.extend(measured)
    if CLIENTS in options.only:
        crowds = clients.measure(workspace, options.xfers, options.rounds, options.scale)
        report.clients.extend(crowds)
    return report


def _measure_work(workspace: Workspace, field: Field, letter: str, options: Options) -> WorkResult:
    plan = works.PLANS[letter]
    present = [it for it in field.contenders if it.skips or not plan.is_repeated]
    with workspace.temporary("source") as directory:
        work = plan.make(directory, options.scale)
        files, size = works.extent(work.source)
        many = f"{files:,} files, " if files > 1 else ""
        title = f"{plan.title} ({many}{size:,} bytes)"
        runs = take_turns(workspace, present, letter, work, options.rounds)
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return WorkResult(letter, title, field.contenders[0].name, runs, floor)


@contextlib.contextmanager
def _workspace(options: Options) -> Iterator[Workspace]:
    """All files and servers live below one temporary directory, and know no other home."""
    with tempfile.TemporaryDirectory(prefix="xfer-benchmarks-", dir=options.on.absolute()) as name:
        directory = Path(name)
        inherited = {key: text for key, text in os.environ.items() if key != "XFER_SECRET"}
        env = inherited | {"HOME": name, "LC_ALL": "C.UTF-8"}
        workspace = Workspace(directory, env, options.timeout)
        workspace.destinations.mkdir()
        yield workspace


if __name__ == "__main__":
    sys.exit(main())
