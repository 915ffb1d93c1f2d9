"""Results as a picture. Needs matplotlib, and nothing else here does."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.processes import BenchmarkError
from tests.benchmarks.results import WorkResult


def require_matplotlib() -> None:
    """BenchmarkError if there is none, which is better known before measuring than after.

    It is not imported yet: what this process takes, its children seem to take too.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise BenchmarkError("--plot needs matplotlib: pip install matplotlib")


def draw(results: Sequence[WorkResult], file: Path) -> None:
    """A chart for each work: medians as bars, ranges as lines on them, in seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(results)), layout="constrained")
    charts = figure.subplots(len(results), 1, squeeze=False)[:, 0]
    for result, chart in zip(results, charts, strict=True):
        names = list(reversed(result.runs))  # the first one is drawn at the bottom
        spreads = [result.seconds(name) for name in names]
        medians = [spread.median for spread in spreads]
        below = [spread.median - spread.low for spread in spreads]
        above = [spread.high - spread.median for spread in spreads]
        colors = ["tab:orange" if name == result.baseline else "tab:blue" for name in names]
        chart.barh(names, medians, xerr=[below, above], color=colors, capsize=3)
        chart.set_title(f"{result.letter}: {result.title}", loc="left")
        chart.set_xlabel("seconds")
    figure.savefig(file, dpi=120)
