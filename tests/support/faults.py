"""Faults that the kernel makes (strace), a job that meets them, and what must hold afterwards."""

import contextlib
import functools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.processes import MIB, PATIENCE, Finished, HandSender, Log, end, receiving

Content = bytes | str | None
"""Of a file; of a link, where it points to; of a directory."""
Contents = dict[str, Content]

SEED: Final = int(os.environ.get("XFER_FAULT_SEED") or random.randrange(10**6))
"""Of everything random here; set the variable to repeat a run."""
MISSING: Final = object()
PLAINTEXT: Final = "--insecure-plaintext"
_MTIME: Final = time.time_ns()
"""Of what is sent: now, which is not long ago for a partial that takes it over."""
_PR_SET_PTRACER: Final = 0x59616D61
_ALLOWS_TRACING: Final = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PTRACER}, ctypes.c_ulong(-1), 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


# --- strace


def traceable() -> list[str]:
    """A prefix for what `attached` is for: Yama may let only ancestors trace a process."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if not scope.exists() or scope.read_text().strip() != "1":
        return []
    return [sys.executable, "-c", _ALLOWS_TRACING]


@contextlib.contextmanager
def attached(process: subprocess.Popen[bytes], *options: str) -> Iterator[None]:
    """Trace a running process, with strace's `options`, until the end of the block.

    strace counts `when=N` in every thread apart. What the main thread of a
    receiver did before it listened is not counted this way, and the threads
    of a session have few calls in common.
    """
    command = ["strace", "-f", "-p", str(process.pid), *options]
    null = subprocess.DEVNULL
    tracer = subprocess.Popen(command, stdin=null, stdout=null, stderr=subprocess.PIPE)
    assert tracer.stderr
    log = Log(tracer.stderr)
    try:
        log.wait_for("attached")
        yield
    finally:
        end(tracer)
        log.join()


def traced(*options: str) -> list[str]:
    """A prefix that traces from the first instruction on; the process stays our own child."""
    return ["strace", "-D", "-f", "-qq", *options]


def require_strace() -> None:
    if trouble := _trouble_with_strace():
        pytest.skip(trouble)


@functools.cache
def _trouble_with_strace() -> str:
    if not shutil.which("strace"):
        return "strace is not installed"
    sleeper = [*traceable(), sys.executable, "-c", "input()"]
    process = subprocess.Popen(sleeper, stdin=subprocess.PIPE)
    try:
        with attached(process, "-o", os.devnull, "-e", "inject=?link:error=EPERM"):
            return ""
    except AssertionError as error:
        return f"strace may not attach to a process here: {error}"
    finally:
        process.communicate(b"\n", PATIENCE)


# --- a job


@dataclass(frozen=True, slots=True)
class Job:
    """What is sent, and what the receiver has under these names before.

    `received` is to be copied for every try (see `another`).
    """

    received: Path
    source: Path
    old: Contents
    new: Contents

    def another(self, home: Path) -> Path:
        """A copy of the receiver's directory, where a receiver at `home` has it."""
        return Path(shutil.copytree(self.received, home / "received", symlinks=True))

    def same_as_sent(self, directory: Path) -> bool:
        """Names, contents, modes and times."""
        stored = {name: _described(directory / name) for name in self.new}
        return stored == {name: _described(self.source.parent / name) for name in self.new}


def mixed_job(home: Path) -> Job:
    """Something of everything: new, resumed, grown, replaced, unchanged; links, directories."""
    some = random.Random(1)
    old: Contents = {
        "job": None,
        "job/grown.log": some.randbytes(MIB + 10),
        "job/kept.txt": b"not sent again\n",
        "job/link": "before",
        "job/replaced.txt": b"older content\n",
        "job/same.txt": b"the same\n",
        "job/touched.txt": b"the same, at another time\n",
        "job/tree": None,
        "job/tree/below": None,
        "job/tree/below/f": b"in a directory\n",
        "job/turned": b"a file\n",
    }
    new: Contents = old | {f"job/small{n}.txt": some.randbytes(100) for n in range(5)}
    new |= {
        "job/empty": None,
        "job/d": None,
        "job/d/e": None,
        "job/d/e/deep.txt": b"deep\n",
        "job/grown.log": _bytes(old["job/grown.log"]) + b"one more line\n",
        "job/link": "after",
        "job/newlink": "small1.txt",
        "job/parts.bin": some.randbytes(MIB + 1),
        "job/replaced.txt": b"newer content\n",
        "job/resumed.bin": some.randbytes(3 * MIB),
    }
    for name in ("job/kept.txt", "job/tree/below/f", "job/tree/below"):
        del new[name]
    new |= {"job/tree": b"a file now\n", "job/turned": None, "job/turned/f": b"below\n"}
    _make(home / "before", old, mtime_ns=0)
    _make(home, new, _MTIME)
    os.utime(home / "before/job/same.txt", ns=(_MTIME, _MTIME))
    _receive(home, _bytes(new["job/resumed.bin"]))
    return Job(home / "received", home / "job", old, new)


def _receive(home: Path, resumed: bytes) -> None:
    """What the job finds: an older job, and the first part of a file that was interrupted."""
    with receiving(home, PLAINTEXT) as site:
        done = site.send("--quiet", home / "before/job")
        assert done.code == 0, done.err
        with HandSender(site) as sender:
            sender.part("job/resumed.bin", resumed, 0, MIB)
            assert sender.answers() == []
    assert len(site.partials()) == 1


def _make(root: Path, contents: Contents, mtime_ns: int) -> None:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
            os.utime(path, ns=(mtime_ns, mtime_ns))
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.mkdir(parents=True, exist_ok=True)


def _bytes(content: Content) -> bytes:
    assert isinstance(content, bytes)
    return content


# --- what must hold


def receipts(done: Finished) -> set[str]:
    """The names that a sender, killed or not, has printed a receipt for."""
    return {
        record["file_name"]
        for record in records(done)
        if record["type"] != "summary" and record["outcome"] != "failed"
    }


def records(done: Finished) -> list[dict[str, Any]]:
    """What a sender has printed; the last line of one that was killed may be a part."""
    return [json.loads(line) for line in done.out.splitlines(keepends=True) if line.endswith("\n")]


def losses(job: Job, root: Path, acknowledged: Iterable[str]) -> list[str]:
    """What a fault has broken below a receiver's directory, in words."""
    found = contents_of(root)
    shown = visible(found)
    versions = {name: versions_in(found, name) for name in job.old}
    broken = {
        **broken_names(job, found, acknowledged),
        "is gone": [
            name for name in job.old.keys() - shown.keys() if job.old[name] not in versions[name]
        ],
        "was replaced, and its older content is lost": [
            name
            for name in job.old.keys() & shown.keys()
            if job.old[name] not in [shown[name], *versions[name]]
        ],
        "has a version that it never had": [
            name
            for name in versions
            if any(kept not in _versioned(job, name) for kept in versions[name])
        ],
    }
    return [f"{name} {what}" for what, names in broken.items() for name in names]


def broken_names(
    job: Job, found: Contents, acknowledged: Iterable[str]
) -> dict[str, Iterable[str]]:
    """Names that show something else than the old or the new, or not what their receipt says."""
    shown = visible(found)
    return {
        "shows neither old nor new": [
            name for name in shown if shown[name] not in _whole(job, name)
        ],
        "has a receipt and is not stored": [
            name for name in acknowledged if shown.get(name, MISSING) != job.new[name]
        ],
    }


def visible(found: Contents) -> dict[str, Content]:
    """What is the user's own."""
    return {name: found[name] for name in found if name.split("/")[0] != ".xfer"}


def versions_in(found: Contents, name: str) -> list[Content]:
    """Its own, and what has its name in versions of the directories above it."""
    parts = name.split("/")
    ways = [("/".join(parts[:n]), "/".join(["", *parts[n:]])) for n in range(1, len(parts) + 1)]
    kept = re.compile(
        "|".join(
            re.escape(f".xfer/versions/{above}/") + r"\d{8}T[\d.]+Z" + re.escape(below)
            for above, below in ways
        )
    )
    return [found[path] for path in found if kept.fullmatch(path)]


def contents_of(root: Path) -> dict[str, Content]:
    """Everything below a directory."""
    return {path.relative_to(root).as_posix(): content_of(path) for path in root.rglob("*")}


def content_of(path: Path) -> Content:
    if path.is_symlink():
        return os.readlink(path)
    return None if path.is_dir() else path.read_bytes()


def _versioned(job: Job, name: str) -> list[Content]:
    """What may be among its versions: new content waits there to be exchanged for a directory."""
    return [job.old[name]] if job.old[name] is not None else _whole(job, name)


def _whole(job: Job, name: str) -> list[Content]:
    return [contents[name] for contents in (job.old, job.new) if name in contents]


def _described(path: Path) -> tuple[Content, int, int]:
    status = path.lstat()
    return content_of(path), status.st_mode, 0 if path.is_symlink() else status.st_mtime_ns


# --- what is told


def say(capsys: pytest.CaptureFixture[str], line: str) -> None:
    """Past pytest's capturing, and past pytest-xdist, whose workers have no standard output."""
    with capsys.disabled():
        print(f"\n{line} (XFER_FAULT_SEED={SEED})", file=sys.stderr, flush=True)
