"""A cluster in virtual time: Slurm's queue, jobs that load and serve, and the queue of requests.

Requests are served in the order of their arrival by any free slot of a ready worker, as workers
that pull do. A job's queue wait depends on the moment of its submission and on the seed alone, so
that every policy meets the same Slurm. Moments are seconds of virtual Unix time.
"""

import heapq
import math
import random
from collections import deque
from itertools import count
from typing import Final, NamedTuple

from headrace.scaler.policy.observations import (
    EndedJob,
    JobOutcome,
    JobPhase,
    ModelJob,
    Observation,
)
from loadtests.day.arrivals import Load
from loadtests.day.waits import Waits

DRAIN_AHEAD: Final = 60.0
"""A worker stops pulling so long before its walltime ends."""


class Site(NamedTuple):
    """What jobs meet: Slurm's waits, load times, walltimes."""

    waits: Waits
    load: float
    walltime: float = 8 * 3600.0
    slots: int = 8
    seed: int = 0


class SimJob:
    """One job."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.id = str(number)
        self.phase = JobPhase.WAITING
        self.submitted_at = now
        self.expected_start = 0.0
        self.started_at = 0.0
        self.ready_at = 0.0
        self.ends_at = 0.0
        self.running = 0

    def view(self) -> ModelJob:
        """As the scaler sees it."""
        return ModelJob(
            id=self.id,
            phase=self.phase,
            submitted_at=self.submitted_at,
            expected_start=self.expected_start if self.phase is JobPhase.WAITING else 0.0,
            started_at=self.started_at,
            ready_at=self.ready_at,
            ends_at=self.ends_at,
            node=f"node{self.number % 16:02d}" if self.started_at else "",
            running=self.running,
        )


class Cluster:
    """Everything that a policy sees and acts on. GPU seconds count from `counted_from` on."""

    def __init__(self, site: Site, load: Load, counted_from: float = 0.0) -> None:
        self.site = site
        self.load = load
        self.counted_from = counted_from
        self.now = 0.0
        self.jobs: list[SimJob] = []
        self.queue: deque[int] = deque()
        self.waits = [math.nan] * len(load.times)
        """Seconds that each request has waited, NaN if it still does."""
        self.arrived = 0
        self.completed = 0
        self.running = 0
        self.gpu_seconds = 0.0
        self.submissions: list[float] = []
        self._events: list[tuple[float, int, str, SimJob]] = []
        self._order = count()
        self._free: deque[SimJob] = deque()
        """A worker once for each of its free slots."""
        self._ended: list[EndedJob] = []

    def submit(self) -> None:
        """Submit a job now."""
        job = SimJob(len(self.submissions) + 1, self.now)
        self.submissions.append(self.now)
        wait, expected = self.site.waits.draw(self.now, job.number, self.site.seed)
        job.expected_start = self.now + expected
        self.jobs.append(job)
        self._at(self.now + wait, "start", job)

    def cancel(self, id: str) -> None:
        """End a job that does not serve."""
        for job in [job for job in self.jobs if job.id == id]:
            assert job.phase in {JobPhase.WAITING, JobPhase.LOADING}, "only these serve nobody"
            self._end(job)

    def drain(self, id: str) -> None:
        """Let a worker finish what it has, and end."""
        for job in [job for job in self.jobs if job.id == id and job.phase is JobPhase.READY]:
            self._drain(job)

    def seen(self) -> Observation:
        """What the scaler would read now. What has ended is told once."""
        ended, self._ended = tuple(self._ended), []
        return Observation(
            waiting=len(self.queue),
            running=self.running,
            arrived=self.arrived,
            completed=self.completed,
            jobs=tuple(job.view() for job in self.jobs),
            ended=ended,
            queue_at=self.now,
            jobs_at=self.now,
            workers_at=self.now,
        )

    def run_until(self, until: float) -> None:
        """Let everything happen up to `until`, or to a request that finds no job: it wakes us."""
        times, events = self.load.times, self._events
        while True:
            event_at = events[0][0] if events else math.inf
            arrival = times[self.arrived] if self.arrived < len(times) else math.inf
            if min(event_at, arrival) > until:
                self.now = until
                return
            if event_at < arrival:
                self.now, _, what, job = heapq.heappop(events)
                self._happen(what, job)
                continue
            self.now = arrival
            self.arrived += 1
            if self._free:
                self._serve(self.arrived - 1, self._free.popleft())
            else:
                self.queue.append(self.arrived - 1)
                if not self.jobs:
                    return

    def finish(self) -> None:
        """The end of the run: charge what still runs."""
        for job in list(self.jobs):
            self._end(job)

    def _at(self, moment: float, what: str, job: SimJob) -> None:
        heapq.heappush(self._events, (moment, next(self._order), what, job))

    def _serve(self, index: int, job: SimJob) -> None:
        self.waits[index] = self.now - self.load.times[index]
        job.running += 1
        self.running += 1
        self._at(self.now + self.load.service[index], "done", job)

    def _slot(self, job: SimJob) -> None:
        if self.queue:
            self._serve(self.queue.popleft(), job)
        else:
            self._free.append(job)

    def _happen(self, what: str, job: SimJob) -> None:
        if what == "done":
            self.completed += 1
            self.running -= 1
            job.running -= 1
            if job.phase is JobPhase.READY:
                self._slot(job)
            elif job.phase is JobPhase.DRAINING and not job.running:
                self._end(job)
        elif job.phase is JobPhase.ENDING:
            return
        elif what == "start":
            job.phase = JobPhase.LOADING
            job.started_at = self.now
            job.ends_at = self.now + self.site.walltime
            source = random.Random(f"{self.site.seed} {job.number}")
            self._at(self.now + self.site.load * math.exp(source.gauss(0, 0.1)), "ready", job)
            self._at(job.ends_at - DRAIN_AHEAD, "drain", job)
        elif what == "ready":
            job.phase = JobPhase.READY
            job.ready_at = self.now
            for _ in range(self.site.slots):
                self._slot(job)
        else:
            self._drain(job)

    def _drain(self, job: SimJob) -> None:
        job.phase = JobPhase.DRAINING
        self._free = deque(each for each in self._free if each is not job)
        if not job.running:
            self._end(job)

    def _end(self, job: SimJob) -> None:
        job.phase = JobPhase.ENDING
        self.jobs.remove(job)
        if job.started_at:
            self.gpu_seconds += max(0.0, self.now - max(job.started_at, self.counted_from))
        self._free = deque(each for each in self._free if each is not job)
        self._ended.append(EndedJob(id=job.id, at=self.now, outcome=JobOutcome.DONE))
