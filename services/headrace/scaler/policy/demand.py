"""How many workers a model needs now, and why: the part of a decision that weighs costs."""

import math
from datetime import timedelta
from typing import Final, NamedTuple

from headrace.scaler.policy import staffing
from headrace.scaler.policy.calendar import local, minimum, place_in
from headrace.scaler.policy.learned import Figures, Learned
from headrace.scaler.policy.observations import JobPhase, ModelJob, Observation
from headrace.scaler.policy.samples import left_over, quantile
from headrace.scaler.policy.sharing import share
from headrace.scaler.spec import Scaling

STEP: Final = 0.05
"""Loads are rounded to 5 %, so that the same question is asked, and answered, again and again."""


_THERE: Final = (JobPhase.READY, JobPhase.LOADING, JobPhase.WAITING)


class Demand(NamedTuple):
    """Workers needed, and the strongest reason."""

    workers: int
    reason: str
    total: int = 0
    """In all clusters together, ours among them."""


def need(seen: Observation, spec: Scaling, learned: Learned, now: float) -> Demand:
    """The workers that pay for themselves now or, if they take time, when they would be ready."""
    figures = learned.figures(spec)
    moment = local(now, spec.timezone)
    then = moment + timedelta(seconds=figures.lead)
    windows = max(minimum(spec.schedule, moment), minimum(spec.schedule, then))
    asked = [
        _by_backlog(seen, spec, learned, figures, now),
        _by_rate(seen, spec, learned, figures, (place_in(moment), place_in(then))),
    ]
    # What work asks for is shared with other clusters; what the operator asks for is there anyway.
    work = max(asked, key=lambda each: each.workers)
    needs = [
        Demand(spec.min, "minimum"),
        Demand(windows, "schedule"),
        Demand(ours(work.workers, seen), work.reason),
    ]
    most = max(needs, key=lambda each: each.workers)
    total = max(work.workers, most.workers)
    if total and not most.workers:
        return Demand(0, "other clusters have enough", total)
    return Demand(min(most.workers, spec.max), most.reason, total)


def ours(total: int, seen: Observation) -> int:
    """Our part of `total` workers in all clusters together."""
    ready, loading = len(seen.of(JobPhase.READY)), len(seen.of(JobPhase.LOADING))
    return share(total, ready, loading, seen.elsewhere)


def ready_in(job: ModelJob, learned: Learned, figures: Figures, now: float) -> float:
    """Seconds until the worker of `job` is ready, by medians."""
    if job.phase is JobPhase.WAITING:
        rest = left_over(learned.wait.ordered, now - job.submitted_at) if learned.wait else [0.0]
        return quantile(rest, 0.5) + figures.load
    if job.phase is JobPhase.LOADING:
        return max(figures.load - (now - job.started_at), 0.1 * figures.load)
    return 0.0


def _by_backlog(
    seen: Observation, spec: Scaling, learned: Learned, figures: Figures, now: float
) -> Demand:
    if not seen.waiting:
        # Short ones may come and go between two looks.
        return Demand(1 if seen.running or learned.came else 0, "requests in work")
    there = seen.of(*_THERE)
    elsewhere = [0.0] * seen.elsewhere.ready + [figures.load] * seen.elsewhere.loading
    count = staffing.catch_up(
        backlog=seen.waiting,
        rate=learned.forecast.rate,
        per_worker=spec.slots / figures.service,
        ready_in=elsewhere + [ready_in(job, learned, figures, now) for job in there],
        more_in=figures.lead,
        load=figures.load,
        most=spec.max + seen.elsewhere.count,
        patience=spec.patience,
    )
    return Demand(max(count, 1), f"{seen.waiting} requests wait")


def _by_rate(
    seen: Observation,
    spec: Scaling,
    learned: Learned,
    figures: Figures,
    places: tuple[float, float],
) -> Demand:
    forecast = learned.forecast
    then = forecast.ahead(places[0], figures.lead, places[1])
    rate = max(then, forecast.rate)
    if rate > 0:
        count = staffing.workers(
            tuple(_rounded(each * figures.service) for each in forecast.range(rate)),
            slots=spec.slots,
            most=spec.max + seen.elsewhere.count,
            peakedness=_rounded(forecast.peakedness(figures.service)),
            patience=spec.patience,
            turnovers=_rounded(figures.lead / figures.service),
            corrections=learned.replay.corrections(spec.max + seen.elsewhere.count),
        )
        if not (seen.waiting or seen.running or learned.came):
            # What is expected keeps workers; it does not start any while nobody asks.
            count = min(count, len(seen.of(*_THERE)) + seen.elsewhere.count)
        if count > 1:
            return Demand(count, f"{rate:.2g} requests a second expected")
    return Demand(_first(then, places[0], spec, learned, figures), "expected by the time of day")


def _first(rate: float, place: float, spec: Scaling, learned: Learned, figures: Figures) -> int:
    """Whether a first worker pays by the profile alone, with no request there.

    Without it, each clump of requests costs a restart. Starting one on a guess asks for more than
    keeping one does, or it would flap.
    """
    if learned.forecast.usual(place) is None or spec.idle_seconds is not None:
        return 0
    return 1 if rate / learned.levels.clump * figures.restart(1, spec) > 1.5 else 0


def _rounded(value: float) -> float:
    return math.exp(round(math.log(max(value, 1e-3)) / STEP) * STEP)
