"""How true the waiting times are that clients are told: the same functions, on simulated days.

An interval is meant to leave out a tenth at either end: four of five requests should wait as long
as it says. A request is told once when it comes to wait, and again every minute.
"""

import math
from typing import Final, NamedTuple

import msgspec

from headrace.protocol.plan import Interval
from headrace.protocol.waiting import Supply, wait
from headrace.scaler.policy.eta import ready_in
from headrace.scaler.policy.observations import JobPhase
from headrace.scaler.spec import Scaling
from loadtests.day.cluster import Cluster
from loadtests.day.policies import Ours

PROMISED: Final = 0.8
AGAIN_SECONDS: Final = 60.0


class Told(NamedTuple):
    """What a request was told at `at`: to wait for `interval` more, or that it is not known."""

    request: int
    at: float
    cold: bool
    """Whether no worker was ready."""
    interval: Interval | None


class Coverage(msgspec.Struct, frozen=True):
    """Shares of what was told, and how wide the intervals were."""

    told: int = 0
    known: float = 0.0
    within: float = 0.0
    """Of the known ones, the share that held what came."""
    too_short: float = 0.0
    """Likewise, those that waited longer than told."""
    width: float = 0.0
    """Median of high over low, each with ten seconds added."""


class Telling(Ours):
    """Our policy, which also notes what waiting clients would be told."""

    def __init__(self, spec: Scaling) -> None:
        super().__init__(spec)
        self.told: list[Told] = []
        self._last: dict[int, float] = {}

    def act(self, cluster: Cluster) -> None:
        """One round, then tell."""
        super().act(cluster)
        if not cluster.queue:
            self._last.clear()
            return
        supply = self._supply(cluster)
        for place, request in enumerate(cluster.queue, 1):
            if cluster.now - self._last.get(request, -math.inf) >= AGAIN_SECONDS:
                self._last[request] = cluster.now
                cold = supply.slots == 0
                self.told.append(Told(request, cluster.now, cold, wait(place, supply)))

    def _supply(self, cluster: Cluster) -> Supply:
        jobs = [job.view() for job in cluster.jobs]
        ready = sum(job.phase is JobPhase.READY for job in jobs)
        coming = sum(job.phase in {JobPhase.WAITING, JobPhase.LOADING} for job in jobs)
        service = self.learned.service
        return Supply(
            slots=ready * self.spec.slots,
            free=max(ready * self.spec.slots - cluster.running, 0),
            coming=coming,
            worker_slots=self.spec.slots,
            ready_in=ready_in(jobs, self.learned, cluster.now),
            each=Interval(service.quantile(0.25, 0.0), service.quantile(0.9, 0.0))
            if service
            else None,
        )


def coverage(told: list[Told], cluster: Cluster, begin: float = 0.0) -> Coverage:
    """Compare what was told from `begin` on with what came. Seconds are whole, rounded outwards."""
    since = [each for each in told if each.at >= begin]
    known, within, short, widths = 0, 0, 0, []
    for each in since:
        waited = cluster.waits[each.request]
        if each.interval is None or math.isnan(waited):
            continue
        left = cluster.load.times[each.request] + waited - each.at
        known += 1
        within += math.floor(each.interval.low) <= left <= math.ceil(each.interval.high)
        short += left > math.ceil(each.interval.high)
        widths.append((each.interval.high + 10) / (each.interval.low + 10))
    if not known:
        return Coverage(len(since))
    width = sorted(widths)[known // 2]
    return Coverage(len(since), known / len(since), within / known, short / known, width)
