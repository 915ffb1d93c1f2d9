"""What a process takes of its machine, and how to give it less."""

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.processes import (
    Site,
    wait_until,
)


def limited(option: str, value: int) -> list[str]:
    """A prefix that sets a resource limit, the hard one too."""
    return ["prlimit", f"--{option}={value}:{value}"]


def descriptors(site: Site) -> list[str]:
    """What the receiver has open."""
    opened = f"/proc/{site.process.pid}/fd"
    links = (os.path.join(opened, number) for number in os.listdir(opened))
    return sorted(filter(None, map(_target, links)))


def _target(link: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return re.sub(r"\d+", "N", os.readlink(link))
    return ""


def descriptors_at_rest(site: Site) -> list[str]:
    """What the receiver has open once connections that tests before have closed are gone."""
    last = descriptors(site)
    while True:
        time.sleep(_REST_SECONDS)
        if (now := descriptors(site)) == last:
            return now
        last = now


def memory(process: subprocess.Popen[bytes], kind: str = "VmRSS") -> int:
    """Resident bytes of a process now, or (VmHWM) at most so far; 0 once it has ended."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(rf"{kind}:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


@contextlib.contextmanager
def alive(site: Site) -> Iterator[None]:
    """Whatever happens in the block, the receiver goes on without a fault of its own."""
    said_before = len(site.log.text)
    yield
    assert site.process.poll() is None
    assert "Traceback" not in site.log.text[said_before:]


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


_REST_SECONDS: Final = 0.2
FEW: Final = 48
"""Descriptors: enough for a receiver and a few sessions."""


@contextlib.contextmanager
def crowd(site: Site) -> Iterator[None]:
    """Strangers that take every descriptor that a receiver has, and say nothing."""
    with contextlib.ExitStack() as connected:
        for _ in range(FEW + 10):
            stranger = socket.create_connection(("127.0.0.1", site.port))
            connected.callback(stranger.close)
        wait_until(lambda: len(descriptors(site)) >= FEW)
        yield
