"""When the next worker is likely to be ready, as an interval: what the plan tells waiting clients.

From measured queue waits and load times; Slurm's own guess is corrected by how wrong its guesses
were before. Where nothing was measured nothing is said.
"""

import math
from collections.abc import Iterable
from typing import Final

from headrace.protocol.plan import Interval
from headrace.scaler.policy.learned import SOFT_SECONDS, Learned
from headrace.scaler.policy.observations import JobPhase, ModelJob
from headrace.scaler.policy.samples import left_over, quantile

LOW: Final = 0.06
HIGH: Final = 0.94
"""The interval leaves out a tenth at either end."""


def ready_in(jobs: Iterable[ModelJob], learned: Learned, now: float) -> Interval | None:
    """Seconds until a worker is ready: 0 if one is, None if none is on its way or nobody knows."""
    arrivals = []
    for job in jobs:
        if job.phase is JobPhase.READY:
            return Interval(0.0, 0.0)
        arrival = _of(job, learned, now)
        if arrival is not None:
            arrivals.append(arrival)
    if not arrivals:
        return None
    # The first one counts; which one that is nobody knows.
    return Interval(min(each.low for each in arrivals), min(each.high for each in arrivals))


def _of(job: ModelJob, learned: Learned, now: float) -> Interval | None:
    if not learned.load:
        return None
    if job.phase is JobPhase.LOADING:
        rest = left_over(learned.load.ordered, max(now - job.started_at, 0.0))
        return Interval(quantile(rest, LOW), quantile(rest, HIGH))
    if job.phase is not JobPhase.WAITING:
        return None
    start = _start(job, learned, now)
    if start is None:
        return None
    load = learned.load
    return Interval(start.low + load.quantile(LOW, 0.0), start.high + load.quantile(HIGH, 0.0))


def _start(job: ModelJob, learned: Learned, now: float) -> Interval | None:
    """Until Slurm starts the job."""
    waited = max(now - job.submitted_at, 0.0)
    if job.expected_start and learned.bias:
        expected = max(job.expected_start - job.submitted_at, 0.0) + SOFT_SECONDS
        low, high = (
            expected * math.exp(learned.bias.quantile(part, 0.0)) - SOFT_SECONDS - waited
            for part in (LOW, HIGH)
        )
        return Interval(max(low, 0.0), max(high, 0.0))
    if learned.wait:
        rest = left_over(learned.wait.ordered, waited)
        return Interval(quantile(rest, LOW), quantile(rest, HIGH))
    return None
