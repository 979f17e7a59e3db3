"""The policy on small days in virtual time: what only a sequence of decisions shows."""

import random
from collections import Counter

import pytest

from headrace.scaler.spec import Scaling
from loadtests.day.arrivals import DAY, HOUR, Load, generate
from loadtests.day.cluster import Cluster, Site
from loadtests.day.policies import Ours
from loadtests.day.run import Span, simulate
from loadtests.day.telling import PROMISED, Telling, coverage
from loadtests.day.waits import Waits

MINUTES = Waits(300.0)


class Watching(Ours):
    """Our policy, which also notes how many jobs there are."""

    def __init__(self, spec: Scaling) -> None:
        super().__init__(spec)
        self.jobs: list[tuple[float, int]] = []

    def act(self, cluster: Cluster) -> None:
        super().act(cluster)
        self.jobs.append((cluster.now, len(cluster.jobs)))


def steady(rate: float, begin: float, end: float, seconds: float = 5.0) -> Load:
    """Requests at random, each of which takes its slot for `seconds`."""
    source, at, times = random.Random(1), begin, []
    while (at := at + source.expovariate(rate)) < end:
        times.append(at)
    return Load(times, [seconds] * len(times))


@pytest.mark.parametrize("waits", [Waits(0.0), MINUTES], ids=["free", "minutes"])
def test_a_burst_scales_to_max_and_back_without_flapping(waits: Waits) -> None:
    """An hour of 26 busy slots, of the 32 that four workers have."""
    load = steady(26 / 5, HOUR, 2 * HOUR)
    policy = Watching(Scaling(max=4, slots=8))
    cluster = simulate(policy, Site(waits, 60.0), load, Span(0.0, 0.0, 4 * HOUR))
    assert max(count for _, count in policy.jobs) == 4
    assert policy.jobs[-1][1] == 0
    assert cluster.completed == len(load.times)
    assert len(cluster.submissions) <= 6, "four, and hardly one twice"


def test_an_idle_model_has_no_job_and_asks_for_none() -> None:
    load = steady(0.5, HOUR, 1.2 * HOUR)
    policy = Watching(Scaling(max=4, slots=8))
    cluster = simulate(policy, Site(MINUTES, 60.0), load, Span(0.0, 0.0, DAY))
    before = [count for at, count in policy.jobs if at < HOUR]
    after = [count for at, count in policy.jobs if at > 3 * HOUR]
    assert not any(before)
    assert not any(after)
    assert all(HOUR <= at < 1.3 * HOUR for at in cluster.submissions)


@pytest.mark.parametrize(
    ("kind", "most", "span"),
    [("bursty", 6, Span(7 * HOUR, 7 * HOUR, 13 * HOUR)), ("rare", 2, Span(0.0, 0.0, DAY))],
    ids=["bursty", "rare"],
)
def test_submissions_are_bounded(kind: str, most: int, span: Span) -> None:
    """Far fewer than there are bursts or sessions, and few within a minute."""
    spec = Scaling(max=most, slots=8, walltime_seconds=8 * HOUR)
    load = generate(kind, 1, seed=2)
    cluster = simulate(Ours(spec), Site(MINUTES, 180.0), load, span)
    minutes = Counter(at // 60 for at in cluster.submissions)
    assert max(minutes.values()) <= spec.submissions_per_minute
    assert len(cluster.submissions) <= 40


@pytest.mark.parametrize(
    ("kind", "most", "waits", "span"),
    [
        ("busy", 4, Waits(0.0), Span(6 * HOUR, 8 * HOUR, 11 * HOUR)),
        ("rare", 2, MINUTES, Span(0.0, DAY, 3 * DAY)),
    ],
    ids=["busy", "rare"],
)
def test_as_many_wait_as_told_as_is_promised(
    kind: str, most: int, waits: Waits, span: Span
) -> None:
    """A busy model's clients wait for slots, a rare one's for a worker to start."""
    policy = Telling(Scaling(max=most, slots=8, walltime_seconds=8 * HOUR))
    cluster = simulate(policy, Site(waits, 180.0), generate(kind, 3, seed=3), span)
    told = coverage(policy.told, cluster, span.begin)
    assert told.told > 300
    assert told.known > 0.95
    assert told.within == pytest.approx(PROMISED, abs=0.12)
