"""``python -m loadtests.day``: run every scenario, and keep results, tables and plots.

All of it takes about half an hour on two cores. ``--quick`` runs one scenario of each model over a
morning and only prints; ``--only "rare, loads in 30 s"`` runs those scenarios alone.
"""

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

import msgspec

from loadtests.day import report
from loadtests.day.oracle import Oracle
from loadtests.day.results import OURS, Against, Day, Result
from loadtests.day.run import Point, point, simulate
from loadtests.day.scenarios import SLOTS, Model, Scenario, policies, quick, requests, scenarios
from loadtests.day.telling import Coverage, Telling, coverage

RESULTS: Final = Path(__file__).parent.parent / "results"
WAITS_AT_ONCE: Final = 6
PLANNED: Final = 1800.0
"""A planner changes the number of workers on the half hour."""


def measure(scenario: Scenario, traces: Path | None) -> Result:
    """Every policy on one scenario; the oracle comes later."""
    model = scenario.model
    load = requests(model, traces)
    points, told = [], Coverage()
    for name, setting, site, policy in policies(scenario):
        cluster = simulate(policy, site, load, model.span)
        points.append(point(cluster, model.span, policy=name, setting=setting))
        if isinstance(policy, Telling):
            told = coverage(policy.told, cluster, model.span.begin)
    return Result(
        scenario=scenario.name,
        model=model.kind,
        load_seconds=scenario.load,
        queue=scenario.queue,
        requests_a_day=sum(model.span.begin <= at < model.span.end for at in load.times)
        / model.span.days,
        points=points,
        told=told,
    )


class Question(NamedTuple):
    """What the oracle is asked: GPU-hours a day of a model that loads so long, at these waits."""

    model: Model
    load_seconds: float
    hold: float
    """Seconds for which a number of workers holds: 0 for the oracle, more for the planner."""
    waits: tuple[float, ...]


def questions(asked: Sequence[Scenario], results: Sequence[Result]) -> Iterator[Question]:
    """Each wait of ours once for a model and load time: Slurm's queue costs it nothing."""
    waits: dict[tuple[Model, float], set[float]] = {}
    for scenario, result in zip(asked, results, strict=True):
        found = waits.setdefault((scenario.model, scenario.load), set())
        found.update(rounded_up(each.p95) for each in result.of(OURS))
    for (model, load), each in waits.items():
        ordered = sorted(each)
        for hold in (0.0, PLANNED) if model.kind != "rare" else (0.0,):
            for at in range(0, len(ordered), WAITS_AT_ONCE):
                yield Question(model, load, hold, tuple(ordered[at : at + WAITS_AT_ONCE]))


def answer(question: Question, traces: Path | None) -> list[float]:
    """The bounds."""
    model = question.model
    oracle = Oracle(
        requests(model, traces),
        begin=model.span.begin,
        end=model.span.end,
        step=model.bin,
        slots=SLOTS,
        start=question.load_seconds,
        most=model.most,
    )
    seconds = oracle.least(question.waits, question.hold)
    return [each / 3600 / model.span.days for each in seconds]


class Bounds:
    """All answers."""

    def __init__(self) -> None:
        self._hours: dict[tuple[Model, float, float, float], float] = {}

    def add(self, question: Question, hours: Sequence[float]) -> None:
        """Take answers in."""
        for wait, each in zip(question.waits, hours, strict=True):
            self._hours[question.model, question.load_seconds, question.hold, wait] = each

    def against(self, scenario: Scenario, ours: Point) -> Against:
        """One of our settings beside what the oracle and the planner pay at its wait."""
        key, wait = (scenario.model, scenario.load), rounded_up(ours.p95)
        oracle = self._hours[*key, 0.0, wait]
        planner = self._hours.get((*key, PLANNED, wait))
        return Against(
            setting=ours.setting,
            p95=ours.p95,
            oracle=oracle,
            ratio=ours.gpu_hours / oracle,
            planner=planner,
        )


def rounded_up(wait: float) -> float:
    """To two digits, so that the oracle is asked less often."""
    if wait <= 0.05:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(wait)) - 1)
    return math.ceil(wait / unit) * unit


def compare(asked: Sequence[Scenario], traces: Path | None) -> list[Result]:
    """All policies on these scenarios, and the oracle."""
    begun = perf_counter()
    results: list[Result] = []
    bounds = Bounds()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(measure, asked, repeat(traces)):
            results.append(result)
            print(f"{perf_counter() - begun:6.0f} s  {result.scenario}", file=sys.stderr)
        put = list(questions(asked, results))
        for question, hours in zip(put, pool.map(answer, put, repeat(traces)), strict=True):
            bounds.add(question, hours)
            name = "planner" if question.hold else "oracle"
            name += f", {question.model.kind}, loads in {question.load_seconds:g} s"
            print(f"{perf_counter() - begun:6.0f} s  {name}", file=sys.stderr)
    return [
        msgspec.structs.replace(
            result, against=[bounds.against(scenario, ours) for ours in result.of(OURS)]
        )
        for scenario, result in zip(asked, results, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and keep the results."""
    parser = argparse.ArgumentParser(prog="day", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--traces", type=Path, help="a folder with the Azure traces, to replay instead")
    add("--only", default="", help="scenarios whose name has this in it")
    add("--quick", action="store_true", help="a morning of three scenarios; keeps nothing")
    add("--out", type=Path, help="where the results go")
    given = parser.parse_args(argv)
    # Two processes on two cores: numpy's own threads would only be in the way.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    begun = perf_counter()
    asked = [each for each in (quick() if given.quick else scenarios()) if given.only in each.name]
    results = compare(asked, given.traces)
    seconds = round(perf_counter() - begun)
    day = Day(traces=given.traces is not None, seconds=seconds, results=results)
    if given.out or not given.quick:
        report.keep(day, given.out or RESULTS)
    print(report.short(day))


if __name__ == "__main__":
    main()
