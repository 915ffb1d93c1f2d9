"""`xfer demo`: a real receiver process on loopback, a send, and a comparison."""

import contextlib
import filecmp
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
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
from xfer.errors import LocalError, XferError
from xfer.sending.observer import Observer, Result
from xfer.source import roots, tree
from xfer.source.tree import Entry, Kind

_STOPPING_SECONDS: Final = 10.0


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: xfer demo README.md photos/")
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

    Raises the error of the first path that did not arrive, or did not arrive as it was.
    """
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
        compared = _compare(paths, stored)
    if shown.failures:
        raise shown.failures[0]
    write_out(
        f"\n{counted(shown.files, 'file')}, {in_units(compared)}: every receipt in hand, "
        "every stored byte compared with its original: equal."
    )
    write_out("\nWith two machines that share a secret (xfer keygen makes one):")
    write_out("    there:  xfer receive --dir DIR")
    write_out("    here:   xfer send FILE… HOST")


class _Receipts(Observer):
    """Prints a line for each receipt."""

    def __init__(self) -> None:
        self.files = 0
        self.failures: list[XferError] = []

    def finished(self, result: Result) -> None:
        name = names.printable(result.name)
        if result.error:
            self.failures.append(result.error)
            write_out(f"  failed     {name}: {names.printable(result.error.message)}")
        elif result.message:
            write_out(f"  {result.outcome:9}  {names.printable(result.message)}")
        elif result.kind is Kind.FILE:
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


def _compare(paths: Sequence[str], stored: str) -> int:
    """Compare everything below `paths` with what was stored; return the bytes compared."""
    compared = 0
    for entry in tree.walk(paths):
        if not isinstance(entry, Entry):
            continue
        copy = os.path.join(os.fsencode(stored), names.to_bytes(entry.name))
        if not _equal(entry, copy):
            raise LocalError(f"{entry.name} was stored otherwise than it was sent")
        compared += entry.size if entry.kind is Kind.FILE else 0
    return compared


def _equal(entry: Entry, copy: bytes) -> bool:
    match entry.kind:
        case Kind.SYMLINK:
            return os.path.islink(copy) and os.readlink(copy) == names.to_bytes(entry.target)
        case Kind.FILE:
            return filecmp.cmp(os.fsencode(entry.path), copy, shallow=False)
        case _:
            return os.path.isdir(copy)
