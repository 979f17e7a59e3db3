"""One policy on one site, under one load."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from loadtests.day.arrivals import DAY, Load
from loadtests.day.cluster import Cluster, Site
from loadtests.day.policies import Policy
from loadtests.load.samples import percentile

TICK: Final = 5.0
IDLE_TICK: Final = 30.0
"""Between rounds, while no job is there. A request that finds none makes a round at once."""


class Span(NamedTuple):
    """Virtual time: from `start` on a policy learns, between `begin` and `end` it counts."""

    start: float
    begin: float
    end: float

    @property
    def days(self) -> float:
        """How many count."""
        return (self.end - self.begin) / DAY


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy took and gave. Waits are in seconds, from a request's arrival to its slot."""

    policy: str
    setting: str
    gpu_hours: float
    """A day, a worker being one GPU."""
    mean: float
    p50: float
    p95: float
    p99: float
    submissions: float
    """A day."""


def simulate(policy: Policy, site: Site, load: Load, span: Span) -> Cluster:
    """Let `policy` act for the whole span."""
    cluster = Cluster(site, load, span.begin)
    cluster.now, cluster.arrived = span.start, bisect_left(load.times, span.start)
    while cluster.now < span.end:
        policy.act(cluster)
        tick = TICK if cluster.jobs or cluster.queue else IDLE_TICK
        cluster.run_until(min(cluster.now + tick, span.end))
    cluster.finish()
    return cluster


def point(cluster: Cluster, span: Span, *, policy: str, setting: str) -> Point:
    """What has come of it."""
    waits = waited(cluster.waits, cluster.load.times, span.begin, span.end)
    return Point(
        policy=policy,
        setting=setting,
        gpu_hours=cluster.gpu_seconds / 3600 / span.days,
        mean=math.fsum(waits) / len(waits),
        p50=percentile(waits, 50),
        p95=percentile(waits, 95),
        p99=percentile(waits, 99),
        submissions=sum(at >= span.begin for at in cluster.submissions) / span.days,
    )


def waited(waits: Sequence[float], times: Sequence[float], begin: float, end: float) -> list[float]:
    """Waits of the requests between `begin` and `end`, ascending; who still waits has so far."""
    return sorted(
        end - at if math.isnan(wait) else wait
        for wait, at in zip(waits, times, strict=True)
        if begin <= at < end
    )
