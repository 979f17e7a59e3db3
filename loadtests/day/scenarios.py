"""What is compared: three models, three load times, three states of Slurm's queue."""

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from headrace.scaler.spec import Scaling
from loadtests.day import arrivals
from loadtests.day.arrivals import DAY, HOUR, Load
from loadtests.day.cluster import Site
from loadtests.day.policies import Averaging, Fixed, Foreseeing, Ours, Policy
from loadtests.day.results import OURS
from loadtests.day.run import Span
from loadtests.day.telling import Telling
from loadtests.day.waits import Waits

SLOTS: Final = 8
PATIENCE: Final = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LOADS: Final = (30.0, 180.0, 600.0)
QUEUES: Final = {"none": Waits(0.0), "minutes": Waits(300.0), "to an hour": Waits(1200.0)}
"""Slurm's waits: none, a median of 5 minutes (a tenth over 15), one of 20 (a tenth at the hour)."""


class Model(NamedTuple):
    """A model's load, at most so many workers for it, when it runs, and the oracle's bins."""

    kind: str
    most: int
    span: Span
    bin: float


FRIDAY_SATURDAY: Final = Span(0.0, DAY, 3 * DAY)
TWO_WEEKS: Final = Span(0.0, DAY, 15 * DAY)
"""A day to learn comes first; a rare model needs more days for a percentile."""
MORNING: Final = Span(7 * HOUR, 9 * HOUR, 13 * HOUR)
MODELS: Final = (
    Model("busy", 10, FRIDAY_SATURDAY, 5.0),
    Model("bursty", 10, FRIDAY_SATURDAY, 5.0),
    Model("rare", 2, TWO_WEEKS, 5.0),
)


class Scenario(NamedTuple):
    """A model on a cluster."""

    model: Model
    load: float
    queue: str

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.model.kind}, loads in {self.load:g} s, Slurm's queue: {self.queue}"

    def site(self, walltime: float = 8 * HOUR) -> Site:
        """Where the jobs run."""
        return Site(QUEUES[self.queue], self.load, walltime, SLOTS)


def scenarios() -> list[Scenario]:
    """All of them."""
    return [Scenario(model, load, queue) for model in MODELS for load in LOADS for queue in QUEUES]


def quick() -> list[Scenario]:
    """One of each model, on a morning."""
    return [Scenario(model._replace(span=MORNING), 180.0, "minutes") for model in MODELS]


@lru_cache(maxsize=1)
def requests(model: Model, traces: Path | None, seed: int = 0) -> Load:
    """The load: generated, or where `traces` has the Azure files, replayed from them."""
    name = {"busy": "conv", "bursty": "code"}.get(model.kind)
    days = math.ceil(model.span.end / DAY)
    if traces is None or name is None:
        return arrivals.generate(model.kind, days, seed)
    scale = 0.5 if model.kind == "busy" else 1.0
    return arrivals.replay(traces / f"azure-llm-2023-{name}.csv", days, scale, seed)


def policies(scenario: Scenario) -> Iterator[tuple[str, str, Site, Policy]]:
    """Each policy with each of its settings: name, setting, site (with its walltime), policy."""
    most = scenario.model.most
    for patience in PATIENCE:
        spec = Scaling(max=most, slots=SLOTS, patience=patience, walltime_seconds=8 * HOUR)
        # The default also notes what waiting clients would be told.
        policy = Telling(spec) if patience == Scaling().patience else Ours(spec)
        yield OURS, f"patience {patience:g}", scenario.site(), policy
    lead = scenario.load * 1.2 + 1.5 * QUEUES[scenario.queue].median + 120
    for window in (120.0, 900.0, 3600.0):
        for threshold in (0.25, 0.5, 0.75, 1.0, 1.5):
            for hours in (1, 4):
                yield (
                    "averaging",
                    f"{window:g} s, {threshold:.0%} of slots, {hours} h",
                    scenario.site(hours * HOUR),
                    Averaging(window, threshold * SLOTS, lead, most),
                )
    for workers in range(1, min(most, 5) + 1):
        yield "fixed", str(workers), scenario.site(), Fixed(workers, lead)
    if scenario.model.kind == "rare":
        for gap in (0.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0):
            yield "foreseeing", f"gap {gap:g} s", scenario.site(15 * DAY), Foreseeing(gap)
