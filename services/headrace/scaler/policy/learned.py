"""What the scaler learns of one model by watching it. Bounded, and plain data: a restart keeps it.

`learn` takes in each observation, once and in order; it changes `Learned` in place, does no I/O and
reads no clock. Stale observations teach nothing.
"""

import math
from typing import Final, NamedTuple

import msgspec

from headrace.scaler.policy.calendar import local, place_in
from headrace.scaler.policy.counterfactual import Counterfactual
from headrace.scaler.policy.failures import JobFailures
from headrace.scaler.policy.forecast import Forecast
from headrace.scaler.policy.levels import Levels
from headrace.scaler.policy.observations import JobPhase, ModelJob, Observation
from headrace.scaler.policy.samples import Samples
from headrace.scaler.policy.service_time import ServiceTime
from headrace.scaler.spec import Scaling

PROVEN_SECONDS: Final = 300.0
"""A job that was ready for so long ends a row of failures; one that dies at once does not."""
SUBMISSIONS: Final = 64
SOFT_SECONDS: Final = 10.0
"""Added to waits before their logarithm is taken: nobody minds 2 s in place of 1 s."""
LONGEST_STEP: Final = 120.0
"""After a longer pause (a restart, stale sources) nothing is known of what happened in it."""


class JobNotes(msgspec.Struct):
    """What was noted of a job that exists."""

    expected_start: float = 0.0
    started: bool = False
    ready: bool = False


class Figures(NamedTuple):
    """What to reckon with: medians of what was measured, or the spec's values until then."""

    load: float
    """Seconds from a job's start until its worker is ready."""
    wait: float
    """Seconds in Slurm's queue, for a job that is submitted now."""
    lead: float
    """Seconds from a submission to a ready worker."""
    service: float
    """Seconds that a request takes in its slot."""
    crowd: float
    """Requests that come in a lead time from the first on, after a pause."""

    def restart(self, level: int, spec: Scaling) -> float:
        """What it costs to start worker `level` (from 1) again, in worker seconds.

        Its load time, and waiting meanwhile: all who come while the first worker starts; for a
        further one as much as makes it needed, which is what a worker costs (see `staffing`).
        """
        return self.load + self.lead * (self.crowd / spec.patience if level == 1 else 1.0)


class Learned(msgspec.Struct):
    """All that is remembered of a model."""

    forecast: Forecast = msgspec.field(default_factory=Forecast)
    replay: Counterfactual = msgspec.field(default_factory=Counterfactual)
    levels: Levels = msgspec.field(default_factory=Levels)
    load: Samples = msgspec.field(default_factory=Samples)
    """Seconds from a job's start until its worker was ready."""
    wait: Samples = msgspec.field(default_factory=Samples)
    """Seconds from submission until Slurm started the job."""
    bias: Samples = msgspec.field(default_factory=Samples)
    """Logarithm of the real wait over the one that Slurm expected at first."""
    service: Samples = msgspec.field(default_factory=Samples)
    """Seconds that a request spends in its slot."""
    work: ServiceTime = msgspec.field(default_factory=ServiceTime)
    failures: JobFailures = msgspec.field(default_factory=JobFailures)
    submitted: list[float] = msgspec.field(default_factory=list)
    """Moments of the last submissions."""
    jobs: dict[str, JobNotes] = msgspec.field(default_factory=dict)
    standing: int = 0
    """Workers that are ready, or were until they were lost while worth keeping."""
    at: float = 0.0
    arrived: int = 0
    came: int = 0
    """Requests that came between the last two observations."""

    def figures(self, spec: Scaling) -> Figures:
        """What to reckon with now."""
        load = self.load.median(spec.load_seconds)
        wait = self.wait.median(0.0)
        service = self.service.median(spec.service_seconds)
        return Figures(load, wait, wait + load, service, self.levels.crowd)

    def keeps(self, level: int, idle: float, figures: Figures, spec: Scaling) -> bool:
        """Whether worker `level` (from 1), not needed for `idle` seconds, should stay."""
        if spec.idle_seconds is not None:
            return idle < spec.idle_seconds
        restart = figures.restart(level, spec)
        # The first is only quicker: nothing is kept for longer.
        return idle < 2 * restart and idle < self.levels.gaps[level - 1].keep(restart)

    def learn(self, seen: Observation, spec: Scaling, now: float) -> None:
        """Take in an observation."""
        if seen.stale(now, spec.stale_seconds):
            return
        for ended in seen.ended:
            self.failures.ended(ended)
        self._jobs(seen.jobs, now)
        step = now - self.at
        came = seen.arrived - self.arrived
        if not 0 < step <= LONGEST_STEP or came < 0:
            step, came = 0.0, 0
            self.work.begin(seen, now)
        self.at, self.arrived, self.came = now, seen.arrived, came
        if service := self.work.observe(seen, step, now):
            self.service.add(service)
        figures = self.figures(spec)
        forecast = self.forecast
        forecast.observe(came, now, place_in(local(now, spec.timezone)), figures.lead)
        self.replay.observe(
            came,
            step,
            slots=spec.slots,
            most=spec.max,
            service=figures.service,
            load=forecast.rate * figures.service,
            peakedness=forecast.peakedness(figures.service),
        )
        self.levels.came(came, now, figures.lead)

    def needed(self, count: int, spec: Scaling, now: float) -> None:
        """Note that `count` workers are needed now."""
        self.levels.needed(count, now, self.figures(spec).restart(1, spec) / 4)

    def _jobs(self, jobs: tuple[ModelJob, ...], now: float) -> None:
        known = {job.id: self.jobs.get(job.id) or self._new(job) for job in jobs}
        for job in jobs:
            note = known[job.id]
            if not note.expected_start and job.phase is JobPhase.WAITING:
                note.expected_start = job.expected_start
            if job.started_at and not note.started:
                note.started = True
                self._started(job, note.expected_start)
            if job.ready_at and not note.ready:
                note.ready = True
                self.load.add(max(job.ready_at - job.started_at, 0.0))
            if job.phase is JobPhase.READY and now - job.ready_at > PROVEN_SECONDS:
                self.failures.proven()
        self.jobs = known

    def _new(self, job: ModelJob) -> JobNotes:
        self.submitted.append(job.submitted_at)
        del self.submitted[:-SUBMISSIONS]
        return JobNotes()

    def _started(self, job: ModelJob, expected_start: float) -> None:
        waited = max(job.started_at - job.submitted_at, 0.0)
        self.wait.add(waited)
        if expected_start:
            expected = max(expected_start - job.submitted_at, 0.0)
            self.bias.add(math.log((waited + SOFT_SECONDS) / (expected + SOFT_SECONDS)))
