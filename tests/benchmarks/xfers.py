"""The contenders that are xfer: any number of versions of it, each in several variants."""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.contender import Contender, Line, Workspace
from tests.benchmarks.delay import delayed
from tests.benchmarks.processes import Command

_SECRET: Final = "xfer-key-" + 43 * "A"


@dataclass(frozen=True, slots=True)
class Variant:
    """Options of xfer that make a contender of their own."""

    name: str
    send: tuple[str, ...] = ()
    receive: tuple[str, ...] = ()


DEFAULT: Final = Variant("")
UNFLUSHED: Final = Variant("unflushed", receive=("--no-fsync",))
VARIANTS: Final = (
    DEFAULT,
    Variant("blake3", send=("--checksum", "blake3")),
    Variant("plaintext", send=("--insecure-plaintext",), receive=("--insecure-plaintext",)),
    UNFLUSHED,
)


@dataclass(frozen=True, slots=True)
class Xfer:
    """One version of xfer: what it is called here, and the words of the command that starts it."""

    name: str
    command: Sequence[str]

    def contenders(self, workspace: Workspace) -> Iterator[Contender]:
        """One for each variant, the default first."""
        for variant in VARIANTS:
            yield self.contender(workspace, variant)

    def contender(
        self, workspace: Workspace, variant: Variant = DEFAULT, delay: float = 0.0
    ) -> Contender:
        """One that has a line on which everything takes `delay` seconds each way."""

        def ready(destination: Path) -> contextlib.AbstractContextManager[Line]:
            return self._line(workspace, variant, destination, delay)

        name = f"{self.name} {variant.name}".strip()
        return Contender(f"{name}, delayed" if delay else name, ready)

    @contextlib.contextmanager
    def _line(
        self, workspace: Workspace, variant: Variant, destination: Path, delay: float
    ) -> Iterator[Line]:
        # Versions do not share what they keep between two starts.
        home = str(workspace.directory / "homes" / self.name)
        env = {
            "HOME": home,
            "XDG_CONFIG_HOME": f"{home}/config",
            "XDG_STATE_HOME": f"{home}/state",
            "XFER_SECRET": _SECRET,
        }
        where = ["--dir", str(destination), "--bind", "127.0.0.1", "--port", "0"]
        receive = [*self.command, "receive", *where, *variant.receive]
        with workspace.start(receive, env=env) as receiver:
            port = int(receiver.wait_for(r"listening on \S+:(\d+)\n")[1])
            with delayed(port, delay) if delay else contextlib.nullcontext(port) as reached_at:

                def send(source: Path) -> None:
                    options = ["--retry-for", "0", *variant.send]
                    words: Command = ["send", *options, source, f"127.0.0.1:{reached_at}"]
                    ended = workspace.run([*self.command, *words], env=env)
                    line.peaks["sender"] = ended.peak_bytes

                line = Line(send)
                yield line
            line.peaks["receiver"] = receiver.end().peak_bytes


def installed() -> Xfer:
    """The xfer of the interpreter that runs this."""
    script = shutil.which("xfer", path=str(Path(sys.executable).parent))
    return Xfer("xfer", [script] if script else [sys.executable, "-m", "xfer"])
