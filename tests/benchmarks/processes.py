"""Child processes: what they said, how they ended, how much memory they took at most."""

import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

Command = Sequence[str | Path]

_SECONDS_TO_START: Final = 20.0
_SECONDS_TO_END: Final = 10.0


class BenchmarkError(Exception):
    """Something went wrong that makes the benchmark worthless; the message is for its user."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), its peak memory in bytes.

    A child begins in its parent's memory, so no peak is lower than this process's own. Of the
    processes that it started and waited for itself, only the largest counts.
    """

    code: int
    peak_bytes: int


class Child:
    """A process of ours, in a process group of its own. Leaving the context ends it."""

    def __init__(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        reads: "Child | None" = None,
        is_read: bool = False,
    ) -> None:
        """Start `command`. It may read what another child writes; `is_read` makes that one."""
        self.name = Path(command[0]).name
        # A file, since a pipe that nobody reads would stop a receiver that logs every file.
        self._log = os.memfd_create("stderr")
        # An interruption while it starts would leave a process that nobody knows.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            list(map(str, command)),
            env=env,
            cwd=cwd,
            stdin=reads._process.stdout if reads else subprocess.DEVNULL,
            stdout=subprocess.PIPE if is_read else subprocess.DEVNULL,
            stderr=self._log,
            process_group=0,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),  # noqa: PLW1509
        )
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        if reads and reads._process.stdout:
            reads._process.stdout.close()  # so that the writer notices when its reader is gone
        self._descriptor = os.pidfd_open(self._process.pid)
        self._ended: Ended | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.end()
        finally:
            if self._process.stdout:
                self._process.stdout.close()
            os.close(self._descriptor)
            os.close(self._log)

    @property
    def said(self) -> str:
        """Its standard error up to now."""
        text = os.pread(self._log, os.fstat(self._log).st_size, 0)
        return text.decode("utf-8", "backslashreplace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it says something like `pattern`."""
        deadline = time.monotonic() + _SECONDS_TO_START
        while not (found := re.search(pattern, self.said)):
            if self._has_ended(0.01) or time.monotonic() > deadline:
                raise BenchmarkError(f"{self.name} did not start: {_last_words(self.said)}")
        return found

    def wait_for_port(self, port: int) -> None:
        """Wait until somebody accepts connections on `port` of loopback."""
        deadline = time.monotonic() + _SECONDS_TO_START
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
            except OSError as error:
                if self._has_ended(0.01) or time.monotonic() > deadline:
                    message = f"{self.name} did not start: {_last_words(self.said) or error}"
                    raise BenchmarkError(message) from error
            else:
                return

    def succeed(self, seconds: float) -> Ended:
        """Wait for its end. BenchmarkError after `seconds`, or if the exit code is not 0."""
        if not self._has_ended(seconds):
            raise BenchmarkError(f"{self.name} took longer than {seconds:g} s")
        ended = self._reap()
        if ended.code:
            raise BenchmarkError(
                f"{self.name} ended with exit code {ended.code}: {_last_words(self.said)}"
            )
        return ended

    def end(self) -> Ended:
        """Ask it to end, if it still runs; kill it if it does not."""
        if not self._has_ended(0):
            os.killpg(self._process.pid, signal.SIGTERM)
            if not self._has_ended(_SECONDS_TO_END):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._reap()

    def _has_ended(self, seconds: float) -> bool:
        return self._ended is not None or bool(
            select.select([self._descriptor], [], [], seconds)[0]
        )

    def _reap(self) -> Ended:
        if self._ended is None:
            _, status, usage = os.wait4(self._process.pid, 0)
            code = self._process.returncode = os.waitstatus_to_exitcode(status)
            self._ended = Ended(code, usage.ru_maxrss * 1024)
        return self._ended


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _last_words(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:]) or "it said nothing"
