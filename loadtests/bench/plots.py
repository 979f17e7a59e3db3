"""The results as plots, in SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from loadtests.bench.points import Point
from loadtests.bench.results import Results
from loadtests.bench.rows import Level

if TYPE_CHECKING:
    from matplotlib.axes import Axes

mpl.use("svg")
# The same input gives the same file.
mpl.rcParams["svg.hashsalt"] = "headrace"

SIZE = (9.0, 3.4)


def draw(results: Results, folder: Path) -> list[str]:
    """Draw what there is; the names of the files."""
    names = []
    if results.side_by_side is not None and results.side_by_side.levels:
        names += _side_by_side(results.side_by_side.levels, folder)
    if results.growth is not None:
        for name, points in results.growth.curves.items():
            names.append(_curve(name, points, folder))
    return names


def _side_by_side(levels: Sequence[Level], folder: Path) -> list[str]:
    ceilings = [level for level in levels if not level.delay_ms]
    figure, (rates, firsts) = _figure()
    for contender in dict.fromkeys(row.contender for level in levels for row in level.rows):
        rows = [
            (level.streams, row)
            for level in ceilings
            for row in level.rows
            if row.contender == contender
        ]
        streams = [each for each, _ in rows]
        rates.plot(streams, [row.requests_per_second for _, row in rows], "o-", label=contender)
        firsts.plot(streams, [row.first_token_p50 for _, row in rows], "o-", label=contender)
    _label(rates, "streams at a time", "requests/s of 30 tokens")
    _label(firsts, "streams at a time", "first token, median, ms")
    for axes in (rates, firsts):
        axes.set(xscale="log", yscale="log")
    rates.legend()
    return [_save(figure, folder / "side-by-side.svg")]


def _curve(name: str, points: Sequence[Point], folder: Path) -> str:
    figure, (firsts, memory) = _figure()
    at = [point.x for point in points]
    firsts.plot(at, [point.first_token.p50 for point in points], "o-", label="median")
    firsts.plot(at, [point.first_token.p99 for point in points], "o:", label="99 %")
    for part in ("edge", "hub", "leaf", "bridge"):
        memory.plot(at, [point.rss_mib.get(part, 0.0) for point in points], "o-", label=part)
    words = {"queue": "requests that wait in the queue", "waiting": "connections that wait"}
    _label(firsts, words.get(name, name), "first token, ms")
    _label(memory, words.get(name, name), "memory, MiB")
    for axes in (firsts, memory):
        # Zero is a place too, and the first steps are as wide as the others.
        axes.set_xscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        axes.legend()
    return _save(figure, folder / f"growth-{name}.svg")


def _figure() -> tuple[Any, tuple["Axes", "Axes"]]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=SIZE, layout="constrained")
    return figure, (axes[0], axes[1])


def _label(axes: "Axes", x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)


def _save(figure: Any, path: Path) -> str:
    import matplotlib.pyplot as plt

    # No date: the same numbers give the same file.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path.name
