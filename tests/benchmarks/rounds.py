"""The rounds: every contender once in each of them, in an order that changes."""

import contextlib
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import filterfalse

from tests.benchmarks import works
from tests.benchmarks.contender import Contender, Workspace
from tests.benchmarks.peers import FLUSHED_RSYNC, PEERS
from tests.benchmarks.processes import BenchmarkError
from tests.benchmarks.results import Run
from tests.benchmarks.works import Work
from tests.benchmarks.xfers import UNFLUSHED, Xfer


@dataclass(frozen=True, slots=True)
class Field:
    """Who takes part, the baseline first, and why others do not, by name."""

    contenders: list[Contender]
    left_out: dict[str, str]


@contextlib.contextmanager
def field_of(workspace: Workspace, xfers: Sequence[Xfer], wanted: Sequence[str]) -> Iterator[Field]:
    """Everybody who can send a file here; of them only the `wanted`, if any are named.

    Whoever differs on a disk only is there only if named.
    BenchmarkError if the baseline, the first xfer's default, cannot, or for an unknown name.
    """
    own = [contender for xfer in xfers for contender in xfer.contenders(workspace)]
    names = [contender.name for contender in own] + [name for group in PEERS for name in group]
    if unknown := ", ".join(set(wanted) - set(names)):
        raise BenchmarkError(f"no such contender: {unknown}; there are: {', '.join(names)}")
    chosen = {own[0].name, *wanted} if wanted else set(filterfalse(_is_for_disks, names))
    field = Field([], {})
    with contextlib.ExitStack() as servers:
        entered = own + list(_start_peers(workspace, chosen, field, servers))
        with workspace.temporary("trial") as directory:
            trial = works.one_file(directory, works.KIB)
            for contender in entered:
                if contender.name in chosen:
                    _try_out(workspace, contender, trial, field)
        yield field


def _is_for_disks(name: str) -> bool:
    return name == FLUSHED_RSYNC or name.endswith(f" {UNFLUSHED.name}")


def _start_peers(
    workspace: Workspace, chosen: set[str], field: Field, servers: contextlib.ExitStack
) -> Iterator[Contender]:
    for names, peer in PEERS.items():
        if chosen.intersection(names):
            try:
                yield from servers.enter_context(peer(workspace))
            except BenchmarkError as error:
                wanted = (name for name in names if name in chosen)
                field.left_out.update(dict.fromkeys(wanted, str(error)))


def _try_out(workspace: Workspace, contender: Contender, trial: Work, field: Field) -> None:
    """Let a contender into the field, or note why not; without a baseline there is no field."""
    try:
        run(workspace, contender, trial)
    except BenchmarkError as error:
        if not field.contenders:
            raise BenchmarkError(f"{contender.name}: {error}") from error
        field.left_out[contender.name] = str(error)
    else:
        field.contenders.append(contender)


def take_turns(
    workspace: Workspace, contenders: Sequence[Contender], title: str, work: Work, rounds: int
) -> dict[str, list[Run]]:
    """The runs of each contender, one a round. BenchmarkError if one of them fails."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        # Seeded, so that two calls can be compared.
        for contender in random.Random(number).sample(contenders, len(contenders)):
            try:
                done = run(workspace, contender, work)
            except BenchmarkError as error:
                raise BenchmarkError(f"{title}: {contender.name}: {error}") from error
            runs[contender.name].append(done)
            tell(f"{title}, round {number + 1}/{rounds}: {contender.name} {done.seconds:.3f} s")
    return runs


def run(workspace: Workspace, contender: Contender, work: Work) -> Run:
    """One transfer into a fresh directory, timed, then compared. BenchmarkError if it fails."""
    with workspace.temporary("destinations/run") as destination:
        with contender.open(destination) as line:
            if work.before:
                line.send(work.before)
            began_at = time.perf_counter()
            line.send(work.source)
            seconds = time.perf_counter() - began_at
        if contender.stores:
            works.require_same(work.source, destination)
    return Run(seconds, line.peaks)


def tell(text: str) -> None:
    """Say how far it is, beside the results."""
    print(text, file=sys.stderr, flush=True)
