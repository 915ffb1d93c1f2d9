"""What the benchmarks can be asked for on the command line."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Final

from tests.benchmarks import works
from tests.benchmarks.xfers import Xfer, installed

LATENCY: Final = "latency"
"""Beside the letters of the works, a name for what goes through a long line."""
CLIENTS: Final = "clients"
"""And one for many senders at once."""


class Options(argparse.Namespace):
    """What was asked for."""

    only: list[str]
    rounds: int
    scale: float
    xfer: list[Xfer] | None
    contenders: list[str]
    on: Path
    timeout: float
    plot: Path | None
    json: Path | None

    @property
    def xfers(self) -> list[Xfer]:
        return self.xfer or [installed()]


def parse() -> Options:
    """The options of this process. Ends it with exit code 2 if they are wrong."""
    parser = _parser()
    options = parser.parse_args(namespace=Options())
    names = [xfer.name for xfer in options.xfers]
    if len(set(names)) < len(names):
        parser.error("each --xfer needs a name of its own")
    return options


def _parser() -> argparse.ArgumentParser:
    titles = "\n".join(f"  {letter}  {plan.title}" for letter, plan in works.PLANS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Compare xfer with rsync, scp and tar on this machine.",
        epilog=f"works:\n{titles}\n  {LATENCY}  xfer alone, through a line of 50 ms each way\n"
        f"  {CLIENTS}  xfer alone, many senders at once, one worker and several",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    everything = [*works.PLANS, LATENCY, CLIENTS]
    add("--only", type=_works, default=everything, metavar="a,b", help="these works; else all")
    add("--rounds", type=_positive_int, default=5, metavar="N", help="5 unless told")
    add("--scale", type=_positive, default=1.0, metavar="X", help="0.01: a hundredth of all")
    add(
        "--xfer",
        type=_xfer,
        action="append",
        metavar="NAME=COMMAND",
        help="a version of xfer; the first is what others are compared with; "
        "else the one of this interpreter",
    )
    add(
        "--contenders",
        type=_names,
        default=[],
        metavar="NAME,NAME",
        help="these and the first xfer; else all that can be had, but for what differs on a disk "
        "only: 'xfer unflushed' and 'flushed rsync daemon'",
    )
    add("--on", type=Path, default="/dev/shm", metavar="DIR", help="where files are; else tmpfs")
    add(
        "--timeout",
        type=_positive,
        default=600.0,
        metavar="SECONDS",
        help="how long one transfer may take; 600 unless told",
    )
    add("--plot", type=Path, metavar="FILE.png", help="draw the results, with matplotlib")
    add("--json", type=Path, metavar="FILE", help="save every run")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _works(text: str) -> list[str]:
    names = _names(text)
    if unknown := set(names) - set(works.PLANS) - {LATENCY, CLIENTS}:
        raise argparse.ArgumentTypeError(f"no such work: {', '.join(sorted(unknown))}")
    return names


def _xfer(text: str) -> Xfer:
    name, separator, command = text.partition("=")
    words = shlex.split(command)
    if not (separator and words and re.fullmatch(r"[\w.-]+", name)):
        raise argparse.ArgumentTypeError(f"not NAME=COMMAND: {text}")
    if "/" in words[0]:  # it is started in another directory
        words[0] = str(Path(words[0]).absolute())
    return Xfer(name, words)


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"not above 0: {text}")
    return number


def _positive_int(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"not above 0: {text}")
    return number
