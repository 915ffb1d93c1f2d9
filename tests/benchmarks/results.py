"""What was measured, and the numbers that are drawn from it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Run:
    """One transfer: how long it took in seconds, and the peak memory of its processes in bytes."""

    seconds: float
    peaks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """A number that was measured once a round."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class WorkResult:
    """All runs of one work: for each contender one a round, in the order of the rounds.

    `baseline` is the contender that the others are compared with, `memory_floor` the peak in
    bytes below which none can be seen.
    """

    letter: str
    title: str
    baseline: str
    runs: dict[str, list[Run]]
    memory_floor: int

    def seconds(self, name: str) -> Spread:
        return Spread.of([run.seconds for run in self.runs[name]])

    def ratio(self, name: str) -> Spread:
        """How long the baseline took for every second of this one, in the same round."""
        rounds = zip(self.runs[self.baseline], self.runs[name], strict=True)
        return Spread.of([own.seconds / other.seconds for own, other in rounds])

    def peaks(self, name: str) -> dict[str, int]:
        """The highest peak memory of each of its processes, in bytes."""
        highest: dict[str, int] = {}
        for run in self.runs[name]:
            for process, peak in run.peaks.items():
                highest[process] = max(peak, highest.get(process, 0))
        return highest
