"""What every contender is to the rounds, and the place where all of them work."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.benchmarks.processes import BenchmarkError, Child, Command, Ended


class Unavailable(BenchmarkError):
    """A contender that cannot take part on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A destination that is ready to receive.

    `send` takes the path of a file or directory, puts it into the destination under its own
    name, and returns when it is there. `peaks` has the peak memory of processes, in bytes, once
    they have ended.
    """

    send: Callable[[Path], None]
    peaks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to get files from one directory to another.

    `open` starts whatever has to listen before a file can be sent into an existing directory.
    """

    name: str
    open: Callable[[Path], AbstractContextManager[Line]]
    skips: bool = True
    """Whether it leaves out what the destination has already."""
    stores: bool = True
    """Whether anything is in the destination afterwards."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A directory that is ours, and what all processes there have in common.

    `timeout` is how many seconds any of them may take.
    """

    directory: Path
    env: Mapping[str, str]
    timeout: float

    @property
    def destinations(self) -> Path:
        """Has a directory for each destination, and nothing else."""
        return self.directory / "destinations"

    @contextlib.contextmanager
    def temporary(self, name: str) -> Iterator[Path]:
        """A new directory in the workspace, which goes at the end with all it holds."""
        directory = self.directory / name
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(directory)

    def start(
        self,
        command: Command,
        *,
        reads: Child | None = None,
        is_read: bool = False,
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> Child:
        """Start `command` with the given variables. Its working directory is the workspace."""
        return Child(
            command, env={**self.env, **env}, cwd=self.directory, reads=reads, is_read=is_read
        )

    def run(self, command: Command, env: Mapping[str, str] = MappingProxyType({})) -> Ended:
        """Run `command` to its end. BenchmarkError if that is not a good one."""
        with self.start(command, env=env) as child:
            return child.succeed(self.timeout)


def program(name: str) -> str:
    """The absolute path of an installed program. Unavailable if there is none."""
    # Servers are kept where only root has its PATH.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise Unavailable(f"{name} is not installed")
    return found
