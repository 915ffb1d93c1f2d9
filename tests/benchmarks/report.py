"""Results as tables in GitHub's markdown, and as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.benchmarks.clients import ClientsResult
from tests.benchmarks.latency import DELAY, LatencyResult
from tests.benchmarks.results import Spread, WorkResult

_EXPLANATION: Final = """\
Medians of all rounds. "÷ other" is how many seconds the first contender takes for each second of
the other in the same round: below 1 it is faster. Nothing is there for those who would send
everything again where a work is about what has arrived before."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one call of the benchmarks found out, and under which circumstances."""

    machine: str
    date: str
    command: str
    rounds: int
    left_out: dict[str, str] = field(default_factory=dict)
    works: list[WorkResult] = field(default_factory=list)
    latency: list[LatencyResult] = field(default_factory=list)
    clients: list[ClientsResult] = field(default_factory=list)

    def markdown(self) -> str:
        """All of it, ready to be pasted."""
        blocks = [_ratios(self.works)] if self.works else []
        blocks += [_work(result) for result in self.works]
        if self.latency:
            blocks.append(_latency(self.latency))
        if self.clients:
            blocks.append(_clients(self.clients))
        return "\n\n".join([*blocks, self._circumstances()])

    def write_json(self, file: Path) -> None:
        """Every run of every round, in seconds and bytes."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def _circumstances(self) -> str:
        made = f"{_EXPLANATION}\n\n{self.date}, rounds: {self.rounds}, on {self.machine}:"
        left_out = [f"Left out: {name} ({reason})." for name, reason in self.left_out.items()]
        return "\n\n".join([made, f"    {self.command}", *left_out])


def _ratios(results: Sequence[WorkResult]) -> str:
    """What the baseline takes for every second of another, for all works at once."""
    names = list(dict.fromkeys(name for result in results for name in result.runs))
    baseline = results[0].baseline
    others = [name for name in names if name != baseline]
    rows = [
        [
            f"{result.letter}: {result.title}",
            f"{result.seconds(baseline).median:.2f} s",
            *(_times(result.ratio(name)) if name in result.runs else "" for name in others),
        ]
        for result in results
    ]
    return _table(["work", baseline, *(f"÷ {name}" for name in others)], rows)


def _work(result: WorkResult) -> str:
    rows = [
        [
            name,
            f"{result.seconds(name).median:.3f}",
            _range(result.seconds(name), 3),
            _times(result.ratio(name)),
            _range(result.ratio(name), 2),
        ]
        for name in result.runs
    ]
    head = ["contender", "median, s", "range, s", f"{result.baseline} ÷ it", "range of that"]
    notes = [
        f"{name} {', '.join(f'{key} {peak / 2**20:.0f}' for key, peak in peaks.items())}"
        for name in result.runs
        if (peaks := result.peaks(name))
    ]
    floor = f"{result.memory_floor / 2**20:.0f}"
    memory = f"Peak memory in MiB (below {floor} none can be seen): {'; '.join(notes)}."
    return f"**{result.letter}: {result.title}**\n\n{_table(head, rows)}\n\n{memory}"


def _latency(results: Sequence[LatencyResult]) -> str:
    rows = [
        [
            result.title,
            result.contender,
            f"{result.direct.median:.2f} ({_range(result.direct, 2)})",
            f"{result.delayed.median:.2f} ({_range(result.delayed, 2)})",
            f"{result.round_trips.median:.1f}",
            f"{_times(result.per_stream)} ({_range(result.per_stream, 2)})",
        ]
        for result in results
    ]
    head = ["work", "contender", "direct, s", "delayed, s", "round trips", "÷ plain stream"]
    title = f"**latency: through a line of {DELAY * 1000:.0f} ms each way**"
    return f"{title}\n\n{_table(head, rows)}"


def _clients(results: Sequence[ClientsResult]) -> str:
    rows = [
        [
            result.title,
            result.contender,
            f"{result.alone.median:.2f} ({_range(result.alone, 2)})",
            f"{result.together.median:.2f} ({_range(result.together, 2)})",
            f"{_times(result.ratio)} ({_range(result.ratio, 2)})",
        ]
        for result in results
    ]
    many = f"{results[0].workers} workers"
    head = ["work", "contender", "1 worker, s", f"{many}, s", f"{many} ÷ 1"]
    return f"**clients: many senders at once**\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its first column to the left and all others to the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _times(ratio: Spread) -> str:
    return f"{ratio.median:.2f}"


def _range(spread: Spread, digits: int) -> str:
    return f"{spread.low:.{digits}f}–{spread.high:.{digits}f}"  # noqa: RUF001  # a range has an en dash
