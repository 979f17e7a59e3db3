"""One policy on one site, under one load."""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from loadtests.day.arrivals import DAY, Load
from loadtests.day.cluster import Cluster, Site
from loadtests.day.policies import Policy
from loadtests.load.samples import percentile

TICK: Final = 5.0
IDLE_TICK: Final = 30.0
"""Between rounds, while no job is there. A request that finds none makes a round at once."""


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


def run(policy: Policy, *, name: str, setting: str, site: Site, load: Load, days: int) -> Point:
    """Run a day to learn and `days` that count."""
    begin, end = DAY, (1 + days) * DAY
    cluster = Cluster(site, load, begin)
    while cluster.now < end:
        policy.act(cluster)
        tick = TICK if cluster.jobs or cluster.queue else IDLE_TICK
        cluster.run_until(min(cluster.now + tick, end))
    cluster.finish()
    waits = waited(cluster.waits, load.times, begin, end)
    return Point(
        policy=name,
        setting=setting,
        gpu_hours=cluster.gpu_seconds / 3600 / days,
        mean=math.fsum(waits) / len(waits),
        p50=percentile(waits, 50),
        p95=percentile(waits, 95),
        p99=percentile(waits, 99),
        submissions=sum(at >= begin for at in cluster.submissions) / days,
    )


def waited(waits: Sequence[float], times: Sequence[float], begin: float, end: float) -> list[float]:
    """Waits of the requests between `begin` and `end`, ascending; who still waits has so far."""
    return sorted(
        end - at if math.isnan(wait) else wait
        for wait, at in zip(waits, times, strict=True)
        if begin <= at < end
    )
