"""`xfer demo`: a real receiver process on loopback, a send, and a comparison."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Container, Iterator, Sequence
from typing import Final

import typer

import xfer
from xfer import names
from xfer.auth.keys import derive_key
from xfer.auth.secret_files import create_secret
from xfer.cli import options
from xfer.cli.exits import exit_codes
from xfer.cli.output.console import write_out
from xfer.client.connect import Target
from xfer.client.job import Job, send_job
from xfer.config.sizes import counted, in_units
from xfer.errors import Incomplete, LocalError, UsageError
from xfer.sending.observer import SKIPPED, Observer, Result, only_error
from xfer.source import roots, tree
from xfer.source.readers import open_source
from xfer.source.tree import Entry, Found, Kind

_STOPPING_SECONDS: Final = 10.0
_COMPARED_BYTES: Final = 1024 * 1024


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    short_help="Try both sides on this machine.", epilog="Example: xfer demo README.md photos/"
)
def demo(
    paths: options.DemoPaths = None,
) -> None:
    """Both sides on this machine: a receiver on loopback, a send, the receipts."""
    with exit_codes():
        _run(paths or [_own_source()])


def _own_source() -> str:
    """The directory of this package: a tree of files that every installation has."""
    return os.path.dirname(os.path.abspath(xfer.__file__))


def _run(paths: Sequence[str]) -> None:
    """Send `paths` to a receiver started for it, show receipts, compare what was stored.

    LocalError when something is stored otherwise. When not all of it went, Incomplete, or
    the one error where nothing did.
    """
    if roots.STDIN in paths:
        raise UsageError("a demo sends files and directories, not standard input")
    roots.check(paths)
    with tempfile.TemporaryDirectory(prefix="xfer-demo-") as directory:
        secret_file = os.path.join(directory, "secret")
        stored = os.path.join(directory, "received")
        os.mkdir(stored)
        key = derive_key(create_secret(secret_file))
        with _receiver(stored, secret_file, directory) as port:
            write_out(f"A receiver process listens on 127.0.0.1:{port}, with a fresh secret.\n")
            shown = _Receipts()
            send_job(Target("127.0.0.1", port, key), Job(list(paths)), shown)
        compared = _compare(paths, stored, shown.stored)
    if shown.failures:
        errors = [failure.error for failure in shown.failures if failure.error]
        count = len(errors) + len(shown.stored)
        summary = f"{len(errors)} of {count} were not sent"
        raise only_error(bool(shown.stored), errors) or Incomplete(summary, (), shown.failures)
    write_out(
        f"\n{counted(shown.files, 'file')}, {in_units(compared)}: every receipt in hand, "
        "and every stored byte is equal to its original."
    )
    write_out("\nWith two machines that share a secret (xfer keygen makes one):")
    write_out("    there:  xfer receive --dir DIR")
    write_out("    here:   xfer send FILE… HOST")


class _Receipts(Observer):
    """Prints a line for each receipt."""

    def __init__(self) -> None:
        self.files = 0
        self.stored: set[str] = set()
        self.failures: list[Result] = []

    def finished(self, result: Result) -> None:
        name = names.printable(result.name)
        if result.error:
            self.failures.append(result)
            write_out(f"  failed     {name}: {names.printable(result.error.message)}")
            return
        if result.outcome == SKIPPED:
            reason = result.message.removesuffix(f": {SKIPPED}")
            write_out(f"  {SKIPPED:9}  {names.printable(reason)}")
            return
        self.stored.add(result.name)
        if result.kind is Kind.FILE:
            self.files += 1
            size = in_units(result.size)
            write_out(f"  {result.outcome:9}  {result.digest}  {size:>10}  {name}")


@contextlib.contextmanager
def _receiver(stored: str, secret_file: str, state: str) -> Iterator[int]:
    """A receiver in a process of its own, which ends with the context; yields its port."""
    command = [sys.executable, "-m", "xfer", "receive", "--dir", stored]
    command += ["--bind", "127.0.0.1", "--port", "0", "--secret-file", secret_file]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_STATE_HOME": state},
    )
    try:
        port = _port_of(process)
        # A line for each file: somebody has to read them, or the receiver waits.
        threading.Thread(target=deque, args=(process.stderr, 0), daemon=True).start()
        yield port
    finally:
        process.terminate()
        try:
            process.wait(_STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stderr  # noqa: S101 (Popen was given a pipe)
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise LocalError(f"the receiver did not start: {said.strip()}")


def _compare(paths: Sequence[str], stored: str, sent: Container[str]) -> int:
    """Compare everything below `paths` that was `sent` with what is below `stored`.

    Returns the bytes compared. Both are walked side by side, in the same order.
    """
    compared = 0
    names_of_roots = [name for name, _ in roots.roots(paths, None)]
    copies = tree.walk(
        [os.path.join(stored, os.fsdecode(names.to_bytes(n))) for n in names_of_roots]
    )
    for entry in tree.walk(paths):
        if isinstance(entry, Entry) and entry.name in sent:
            copy = next((copy for copy in copies if copy.name == entry.name), None)
            if copy is None or not _equal(entry, copy):
                raise LocalError(f"{entry.path} was stored otherwise than it was sent")
            compared += entry.size if entry.kind is Kind.FILE else 0
    return compared


def _equal(entry: Entry, copy: Found) -> bool:
    if not isinstance(copy, Entry) or (entry.kind, entry.target) != (copy.kind, copy.target):
        return False
    return entry.kind is not Kind.FILE or _same_content(entry, copy)


def _same_content(one: Entry, other: Entry) -> bool:
    views = [memoryview(bytearray(_COMPARED_BYTES)) for _ in range(2)]
    with open_source(one) as source, open_source(other) as copy:
        while True:
            read = [views[0][: source.read_into(views[0])], views[1][: copy.read_into(views[1])]]
            if read[0] != read[1]:
                return False
            if source.is_at_end():
                return copy.is_at_end()
