"""Commits in a process of its own: with less power, under another umask, under strace."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.tools import working

COMMIT = """
import json, os, sys
from tests.support.stores import commit
from xfer.errors import Refused, XferError
from xfer.storage.contract import Metadata, NewDirectory, NewFile, NewSymlink
from xfer.storage.local.store import LocalStore

def item(name, content):
    if not isinstance(content, str):
        return NewSymlink(name, content[0]) if content else NewDirectory(name, Metadata())
    partial = writer.create_partial()
    try:
        partial.write(content.encode())
        partial.finish(Metadata(None, 10**18))
    except Refused:
        partial.discard()
        raise
    return NewFile(name, partial)

try:
    with LocalStore(sys.argv[1]) as store:
        writer = store.open_writer("default")
        results = commit(writer, [item(*one) for one in json.loads(sys.argv[2])])
        told = [getattr(result, "code", result) for result in results]
        writer.finish()
        os.write(1, json.dumps(told).encode())
        writer.close()
except XferError as error:
    os.write(1, json.dumps([error.code]).encode())
"""


Contents = dict[str, str | list[str]]
"""Text of a file, [target] of a symbolic link, [] of a directory; by name."""


def commit_apart(
    root: Path, contents: Contents, prefix: Sequence[str] = (), umask: int = -1
) -> list[str]:
    """Commit one batch in another process; [] if it was killed before it could tell."""
    arguments = [str(root), json.dumps(list(contents.items()))]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", COMMIT, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        umask=umask,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode in (0, -9), done.stderr
    told: list[str] = json.loads(done.stdout or "[]")
    return told


NAMING = ["linkat", "rename", "renameat", "renameat2", "symlinkat", "mkdirat", "unlinkat"]


FLUSHING = ["fsync", "fdatasync", "syncfs"]


def strace(trace: Path, *inject: str) -> list[str]:
    calls = ",".join(f"?{call}" for call in ["write", "pwrite64", "sendfile", *NAMING, *FLUSHING])
    faults = [option for fault in inject for option in ("-e", f"inject={fault}")]
    # Whether it may trace and inject is asked once, not for each trace.
    working("strace", "-f", "-y", "-o", os.devnull, "-e", "inject=?link:error=EPERM")
    return ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={calls}", *faults]
