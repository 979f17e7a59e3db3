"""Results of scenarios: what is kept, and what follows from it."""

import math
from collections.abc import Iterable

import msgspec

from loadtests.day.run import Point
from loadtests.day.telling import Coverage

OURS = "ours"
RIVALS = ("averaging", "fixed")


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of ours against the oracle at the same 95th percentile, in GPU-hours a day."""

    setting: str
    p95: float
    oracle: float
    """What the oracle pays at least."""
    ratio: float
    """Ours over `oracle`."""
    planner: float | None
    """What who knows all but changes the number of workers only on the half hour pays at least."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario."""

    scenario: str
    model: str
    load_seconds: float
    queue: str
    requests_a_day: float
    points: list[Point]
    told: Coverage
    """How true the waiting times are that clients are told, at our default."""
    against: list[Against] = []

    def held(self) -> list[Against]:
        """What is held against the oracle: settings that no other of ours beats at the 95th."""
        best = {point.setting for point in front(self.of(OURS))}
        return [each for each in self.against if each.setting in best]

    def of(self, *policies: str) -> list[Point]:
        """The points of these policies."""
        return [point for point in self.points if point.policy in policies]


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """All scenarios."""

    traces: bool
    """Whether recorded traces were replayed instead of generated ones."""
    seconds: float
    """How long the run took."""
    results: list[Result]


def beats(one: Point, other: Point, wait: str) -> bool:
    """Whether `one` is no worse than `other` on both axes, and better on one."""
    costs = one.gpu_hours - other.gpu_hours
    waits = getattr(one, wait) - getattr(other, wait)
    return bool(costs <= 0 and waits <= 0 and (costs < 0 or waits < 0))


def beaten(result: Result, wait: str) -> list[tuple[Point, Point]]:
    """Settings on our front that a rival's setting beats, each with the cheapest such."""
    found = []
    for ours in front(result.of(OURS), wait):
        better = [point for point in result.of(*RIVALS) if beats(point, ours, wait)]
        if better:
            found.append((ours, min(better, key=lambda point: point.gpu_hours)))
    return found


def front(points: Iterable[Point], wait: str = "p95") -> list[Point]:
    """The points that no other one beats, cheapest first."""
    kept: list[Point] = []
    best = math.inf
    for point in sorted(points, key=lambda each: (each.gpu_hours, getattr(each, wait))):
        if getattr(point, wait) < best:
            best = getattr(point, wait)
            kept.append(point)
    return kept


def cheapest(points: Iterable[Point], p95: float) -> Point | None:
    """The cheapest point whose 95th percentile is no longer than `p95`."""
    within = [point for point in points if point.p95 <= p95]
    return min(within, key=lambda point: point.gpu_hours, default=None)
