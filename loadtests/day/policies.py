"""The policies that are compared. Each is asked every few seconds and acts on the cluster."""

import math
from bisect import bisect_right
from typing import Protocol

from headrace.scaler.policy.decide import CancelJob, DrainJob, SubmitJob, observe
from headrace.scaler.policy.learned import Learned
from headrace.scaler.policy.observations import JobPhase
from headrace.scaler.spec import Scaling
from loadtests.day.cluster import Cluster


class Policy(Protocol):
    """Whatever scales."""

    def act(self, cluster: Cluster) -> None:
        """Look, decide, act."""


class Ours:
    """The scaler's own policy: the very code that runs in production."""

    def __init__(self, spec: Scaling) -> None:
        self.spec = spec
        self.learned = Learned()

    def act(self, cluster: Cluster) -> None:
        """One round."""
        for action in observe(cluster.seen(), self.spec, self.learned, cluster.now).actions:
            match action:
                case SubmitJob():
                    cluster.submit()
                case CancelJob(job=job):
                    cluster.cancel(job)
                case DrainJob(job=job):
                    cluster.drain(job)


class Fixed:
    """Always so many workers, each replaced `lead` seconds before its walltime ends."""

    def __init__(self, workers: int, lead: float) -> None:
        self._workers = workers
        self._lead = lead

    def act(self, cluster: Cluster) -> None:
        """Submit what is missing; never end anything."""
        wanted = self.wanted(cluster)
        lasting = [job for job in cluster.jobs if not 0 < job.ends_at < cluster.now + self._lead]
        for _ in range(wanted - len(lasting)):
            cluster.submit()

    def wanted(self, cluster: Cluster) -> int:  # noqa: ARG002  a rule may look
        """Workers that should be there."""
        return self._workers


class Averaging(Fixed):
    """The reference's rule: the mean number of concurrent requests over a window.

    There is one instance for each `threshold` of them, and at least one, as it can't hold requests
    for a model that is not there. Those too many are left to expire at their walltime
    (Doosthosseini et al., "Chat AI", section 5.5). To its favour it has our queue here, in which
    nothing is lost, and it knows the real lead time.
    """

    def __init__(self, window: float, threshold: float, lead: float, most: int) -> None:
        super().__init__(1, lead)
        self._window = window
        self._threshold = threshold
        self._most = most
        self._mean = 0.0
        self._at = -math.inf

    def wanted(self, cluster: Cluster) -> int:
        """By the mean."""
        concurrent = cluster.running + len(cluster.queue)
        self._mean += (concurrent - self._mean) * -math.expm1(
            -(cluster.now - self._at) / self._window
        )
        self._at = cluster.now
        return min(max(math.ceil(self._mean / self._threshold), 1), self._most)


class Foreseeing:
    """For a model that never needs two workers: it knows when the next request comes.

    It keeps an idle worker exactly if that is within `gap` seconds, which no rule for keeping can
    beat; but it starts one only for a request that is there, as no one can who does not know the
    future. What lies between it and the oracle is the price of not starting on prophecy.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap

    def act(self, cluster: Cluster) -> None:
        """Start for a request, keep for the next one."""
        if cluster.queue and not any(job.phase is not JobPhase.DRAINING for job in cluster.jobs):
            cluster.submit()
        times = cluster.load.times
        place = bisect_right(times, cluster.now)
        left = times[place] - cluster.now if place < len(times) else math.inf
        if not cluster.queue and not cluster.running and left > self._gap:
            for job in [job for job in cluster.jobs if job.phase is JobPhase.READY]:
                cluster.drain(job.id)
