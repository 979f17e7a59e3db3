"""``python -m loadtests.day``: run every scenario, and keep results, tables and plots.

Each run of a policy takes a few seconds for a day of load, all of them together about an hour on
one core. ``--only "rare, loads in 30 s"`` runs those scenarios alone.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from loadtests.day import report
from loadtests.day.arrivals import DAY, Load
from loadtests.day.oracle import Oracle
from loadtests.day.results import OURS, Against, Day, Result
from loadtests.day.run import Point, run
from loadtests.day.scenarios import SLOTS, Model, Scenario, policies, requests, scenarios

RESULTS: Final = Path(__file__).parent.parent / "results"


class Bounds:
    """The oracle's bounds of one model and load time, each found once."""

    def __init__(self, model: Model, load: Load, start: float) -> None:
        self._days = model.days
        self._oracle = Oracle(
            load,
            begin=DAY,
            end=(1 + model.days) * DAY,
            step=model.bin,
            slots=SLOTS,
            start=start,
            most=min(model.most, 8),
        )
        self._known: dict[float, float] = {}

    def against(self, point: Point) -> Against:
        """`point` beside the oracle at its 95th percentile, rounded up to two digits."""
        wait = _rounded_up(point.p95)
        if wait not in self._known:
            self._known[wait] = self._oracle.least(wait) / 3600 / self._days
        hours = self._known[wait]
        return Against(
            setting=point.setting, p95=point.p95, oracle=hours, ratio=point.gpu_hours / hours
        )


def measure(scenario: Scenario, load: Load, bounds: Bounds) -> Result:
    """Every policy on one scenario."""
    model = scenario.model
    points = [
        run(policy, name=name, setting=setting, site=site, load=load, days=model.days)
        for name, setting, site, policy in policies(scenario)
    ]
    return Result(
        scenario=scenario.name,
        model=model.kind,
        load_seconds=scenario.load,
        queue=scenario.queue,
        requests_a_day=sum(at >= DAY for at in load.times) / model.days,
        points=points,
        against=[bounds.against(point) for point in points if point.policy == OURS],
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and keep the results."""
    parser = argparse.ArgumentParser(prog="day", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--traces", type=Path, help="a folder with the Azure traces, to replay instead")
    add("--only", default="", help="scenarios whose name has this in it")
    add("--out", type=Path, default=RESULTS, help="where the results go")
    given = parser.parse_args(argv)
    begun = perf_counter()
    results = []
    loads: dict[Model, Load] = {}
    bounds: dict[tuple[Model, float], Bounds] = {}
    for scenario in scenarios():
        if given.only not in scenario.name:
            continue
        model = scenario.model
        load = loads.setdefault(model, loads.get(model) or requests(model, given.traces))
        key = (model, scenario.load)
        bounds.setdefault(key, bounds.get(key) or Bounds(model, load, scenario.load))
        results.append(measure(scenario, load, bounds[key]))
        print(f"{perf_counter() - begun:6.0f} s  {scenario.name}", file=sys.stderr)
    day = Day(
        traces=given.traces is not None, seconds=round(perf_counter() - begun), results=results
    )
    given.out.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(day), indent=1)
    (given.out / "day.json").write_bytes(encoded + b"\n")
    (given.out / "day.md").write_text(report.markdown(day), encoding="utf-8")
    report.plots(day, given.out)
    print(report.markdown(day).split("\n## ")[1])


def _rounded_up(wait: float) -> float:
    if wait <= 0.05:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(wait)) - 1)
    return math.ceil(wait / unit) * unit


if __name__ == "__main__":
    main()
