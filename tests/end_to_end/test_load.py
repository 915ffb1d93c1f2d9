"""A crowd: idle strangers that keep coming back, and many senders at once."""

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import (
    MIB,
    SECRET,
    HandSender,
    Site,
    environment,
    receiving,
    wait_until,
)
from tests.support.resources import alive, descriptors, descriptors_at_rest, memory

MOST_MEMORY: Final = 300 * MIB
MOST_LEFT: Final = 24 * MIB
_PROCESSES: Final = 4
_SENDERS: Final = """
import json, sys, threading, time
import xfer
from xfer.errors import XferError
jobs = json.load(sys.stdin)
told = []
def send(path):
    try:
        told.extend(r.outcome for r in xfer.send([path], jobs["host"], secret=jobs["secret"]))
    except XferError as error:
        told.append(f"{error.code}: {error.message}")
threads = [threading.Thread(target=send, args=(path,)) for path in jobs["paths"]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(told))
"""


class Crowd:
    """Strangers from many addresses that say nothing, and come back when they are dropped."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._is_over = False
        self.connections = 0
        self._strangers = [self._connected(number) for number in range(count)]
        self._thread = threading.Thread(target=self._insist)

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        for stranger in self._strangers:
            stranger.close()

    def _connected(self, number: int) -> socket.socket:
        stranger = socket.socket()
        stranger.bind((f"127.0.{1 + number // 250}.{1 + number % 250}", 0))
        stranger.settimeout(5)
        with contextlib.suppress(OSError):
            stranger.connect(("127.0.0.1", self._port))
            self.connections += 1
        stranger.setblocking(False)
        return stranger

    def _insist(self) -> None:
        while not self._is_over:
            for number, stranger in enumerate(self._strangers):
                with contextlib.suppress(BlockingIOError):
                    with contextlib.suppress(ConnectionError):
                        stranger.recv(1)
                    stranger.close()
                    self._strangers[number] = self._connected(number)
            time.sleep(0.5)


@contextlib.contextmanager
def senders(site: Site, files: list[Path]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A few processes, with a thread for each file."""
    started = []
    for number in range(_PROCESSES):
        process = subprocess.Popen(
            [sys.executable, "-c", _SENDERS],
            env=environment(site.home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        paths = list(map(str, files[number::_PROCESSES]))
        assert process.stdin
        jobs = {"host": site.host, "secret": SECRET, "paths": paths}
        process.stdin.write(json.dumps(jobs).encode())
        process.stdin.close()
        process.stdin = None
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def send_all(site: Site, files: list[Path], seconds: float) -> float:
    """How many seconds it takes until all of them have been stored and compared."""
    began = time.monotonic()
    with senders(site, files) as started:
        told = [json.loads(process.communicate(timeout=seconds)[0]) for process in started]
    took = time.monotonic() - began
    assert sum(told, []) == len(files) * ["stored"]  # noqa: RUF017 (a few lists)
    assert all(site.stored(file).read_bytes() == file.read_bytes() for file in files)
    return took


def make_files(directory: Path, count: int, size: int) -> list[Path]:
    directory.mkdir()
    files = [directory / f"{directory.name}-{number}" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(random.Random(f"{directory.name}{number}").randbytes(size))
    return files


@pytest.mark.parametrize(
    ("strangers", "count"),
    [
        (150, 16),
        pytest.param(
            1000, 200, marks=[pytest.mark.exhaustive, pytest.mark.timeout(400)], id="whole"
        ),
    ],
)
def test_a_crowd_of_strangers_keeps_no_sender_out_and_leaves_nothing_behind(
    tmp_path: Path, strangers: int, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = 50 if count < 100 else 180
    with receiving(tmp_path, "--quiet") as site, alive(site):
        idle = descriptors_at_rest(site)
        with HandSender(site) as first:
            first.answers()
        wait_until(lambda: descriptors(site) == idle)
        idle_memory = memory(site.process)
        alone = send_all(site, make_files(tmp_path / "alone", count, MIB), seconds)
        files = make_files(tmp_path / "crowded", count, MIB)
        with Crowd(site.port, strangers) as crowd:
            crowded = send_all(site, files, seconds)
            peak = memory(site.process, "VmHWM")
        wait_until(lambda: descriptors(site) == idle)
        assert site.partials() == []
        wait_until(lambda: memory(site.process) < idle_memory + MOST_LEFT)
        left = memory(site.process) - idle_memory
    with capsys.disabled():
        print(
            f"\n{count} senders of 1 MiB: {alone:.1f} s alone, {crowded:.1f} s among {strangers} "
            f"strangers ({crowd.connections} connections); the receiver had at most "
            f"{peak // MIB} MiB, and {left // MIB} MiB more than before at the end"
        )
    assert peak < MOST_MEMORY
