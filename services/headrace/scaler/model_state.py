"""One model under the scaler's care: what is known of it, what was learned, what is wanted."""

from typing import Final

import msgspec

from headrace.catalogue.model import ModelFile
from headrace.catalogue.overrides import Override
from headrace.catalogue.status import ModelRow, WorkerRow
from headrace.protocol.plan import Interval, ModelPhase, Plan
from headrace.protocol.requests import VERSION
from headrace.protocol.state import MARGIN_SECONDS
from headrace.scaler.backlog import Backlog
from headrace.scaler.fleet import Fleet
from headrace.scaler.policy import decide as policy
from headrace.scaler.policy.decide import Decision
from headrace.scaler.policy.failures import JobFailures
from headrace.scaler.policy.learned import Learned
from headrace.scaler.policy.observations import EndedJob, JobPhase, Observation
from headrace.scaler.policy.sharing import PeerTrust, PeerWorkers
from headrace.scaler.rollout import renew
from headrace.scaler.spec import Scaling

TURNED_AWAY_SECONDS: Final = 60.0
"""Clients that fail fast come again within this time, or are no demand any more."""


class ModelState:
    """All about one model; `leaving` once its file is gone."""

    def __init__(self, model: ModelFile, learned: Learned | None = None) -> None:
        self.model = model
        self.leaving = False
        self.fleet = Fleet()
        self.backlog = Backlog()
        self.learned = learned or Learned()
        self.decision = Decision(desired=0, needed=0, reason="just begun")
        self.ended: list[EndedJob] = []
        """What has ended since the last decision."""
        self.turned_away_at = 0.0
        """When a client last asked for the model and did not want to wait in its queue."""
        self._trust = PeerTrust()
        self._rates: dict[str, tuple[int, float, float]] = {}

    def take(self, model: ModelFile) -> None:
        """Take in what the model's file says now."""
        if model.generation != self.model.generation:
            # What has failed was another version: this one gets a try at once, and on any node.
            self.learned.failures = JobFailures()
        self.model, self.leaving = model, False

    def scaling(self, override: Override | None, stale_seconds: float) -> Scaling:
        """What the policy works with: the model's file, an operator's word over it."""
        scale = override.over(self.model.scale) if override else self.model.scale
        least, most = (0, 0) if self.leaving else (scale.min, scale.max)
        # What Slurm gives, where that is less than what is asked for (see `time_min`).
        jobs = [job for job in self.fleet.jobs() if job.phase in {JobPhase.LOADING, JobPhase.READY}]
        given = [job.ends_at - job.started_at for job in jobs if job.ends_at > job.started_at]
        return Scaling(
            min=least,
            max=most,
            slots=self.model.slots,
            patience=scale.patience,
            idle_seconds=0.0 if self.leaving else scale.idle_seconds,
            schedule=() if self.leaving else scale.schedule,
            timezone=scale.timezone,
            successor=scale.successor and not self.leaving,
            walltime_seconds=min([self.model.job.time_seconds, *given]),
            leaves_seconds=self.model.drain_seconds + MARGIN_SECONDS,
            load_seconds=scale.load_seconds,
            service_seconds=scale.service_seconds,
            load_limit_seconds=scale.load_limit_seconds,
            submissions_per_minute=scale.submissions_per_minute,
            stale_seconds=stale_seconds,
            failures_to_give_up=scale.failures_to_give_up,
        )

    def decide(
        self,
        spec: Scaling,
        now: float,
        *,
        jobs_at: float,
        workers_at: float,
        elsewhere: PeerWorkers,
    ) -> Decision:
        """What to do now; what has ended is told to the policy once."""
        counts = self.backlog.now
        oldest_wait = self.backlog.oldest_wait()
        load = self.learned.figures(spec).load
        renewal = renew(self.fleet.known.values(), self.model.generation, now)
        seen = Observation(
            waiting=max(counts.waiting, self._turned_away(now)),
            running=counts.running,
            arrived=counts.arrived,
            completed=counts.completed,
            tokens=sum(known.tokens for known in self.fleet.known.values()),
            oldest_wait=oldest_wait,
            jobs=renewal.jobs,
            ended=tuple(self.ended),
            elsewhere=self._trust.believed(elsewhere, oldest_wait, load, now),
            queue_at=self.backlog.at,
            jobs_at=jobs_at,
            workers_at=workers_at,
        )
        self.decision = policy.observe(seen, spec, self.learned, now)
        if not seen.stale(now, spec.stale_seconds):
            self.ended.clear()
            self.decision = msgspec.structs.replace(
                self.decision, actions=renewal.actions + self.decision.actions
            )
        return self.decision

    def hopeless(self, job: str, now: float) -> bool:
        """Whether a job runs for so long and does not serve that it has failed."""
        known = self.fleet.named(job)
        limit = self.model.scale.load_limit_seconds
        return known is not None and not known.ready_at and 0 < known.started_at < now - limit

    def _turned_away(self, now: float) -> int:
        """Who was told to come again counts as one who waits, until the model can be there."""
        return int(now - self.turned_away_at < TURNED_AWAY_SECONDS and not self.leaving)

    @property
    def phase(self) -> ModelPhase:
        """As a waiting client sees it."""
        phases = {known.phase for known in self.fleet.known.values()}
        if JobPhase.READY in phases:
            return ModelPhase.READY
        if JobPhase.LOADING in phases:
            return ModelPhase.LOADING
        if self.decision.failed:
            return ModelPhase.FAILED
        return ModelPhase.PENDING if JobPhase.WAITING in phases else ModelPhase.COLD

    def plan(self, cluster: str, now: float, ready_in: Interval | None) -> Plan:
        """What edges are told."""
        known = list(self.fleet.known.values())
        counts = {phase: sum(each.phase is phase for each in known) for phase in JobPhase}
        return Plan(
            version=VERSION,
            cluster=cluster,
            model=self.model.queue,
            facts=self.model.facts,
            phase=self.phase,
            sent=now,
            desired=self.decision.desired,
            ready=counts[JobPhase.READY],
            slots=sum(each.slots for each in known if each.phase is JobPhase.READY),
            pending=counts[JobPhase.WAITING],
            loading=counts[JobPhase.LOADING],
            ready_in=ready_in,
            each=self._each(),
            reason=self.decision.failed or self.decision.blocked,
            removed=self.leaving,
            worker_slots=self.model.slots,
        )

    def row(self, spec: Scaling, now: float, ready_in: Interval | None) -> ModelRow:
        """What operators see."""
        decision = self.decision
        return ModelRow(
            model=self.model.queue,
            name=self.model.name,
            phase=self.phase,
            waiting=self.backlog.now.waiting,
            running=self.backlog.now.running,
            oldest_wait=round(self.backlog.oldest_wait(), 1),
            desired=decision.desired,
            minimum=spec.min,
            maximum=spec.max,
            reason=decision.reason,
            blocked=decision.blocked,
            failed=decision.failed,
            ready_in=ready_in,
            workers=tuple(self._worker_rows(now)),
        )

    def _worker_rows(self, now: float) -> list[WorkerRow]:
        rows = []
        for submission, known in self.fleet.known.items():
            tokens, at, speed = self._rates.get(submission, (known.tokens, now, 0.0))
            if now - at >= 1.0:
                speed = max(known.tokens - tokens, 0) / (now - at)
                self._rates[submission] = (known.tokens, now, speed)
            elif submission not in self._rates:
                self._rates[submission] = (known.tokens, now, 0.0)
            rows.append(
                WorkerRow(
                    job=known.id,
                    phase=known.phase,
                    node=known.node,
                    submitted_at=known.submitted_at,
                    expected_start=known.expected_start,
                    started_at=known.started_at,
                    ready_at=known.ready_at,
                    ends_at=known.ends_at,
                    running=known.running,
                    slots=known.slots,
                    tokens_per_second=round(speed, 1),
                    reason=known.reason,
                )
            )
        for gone in self._rates.keys() - self.fleet.known.keys():
            del self._rates[gone]
        return rows

    def _each(self) -> Interval | None:
        service = self.learned.service
        if not service:
            return None
        return Interval(service.quantile(0.25, 0.0), service.quantile(0.9, 0.0))


def encode(learned: Learned) -> bytes:
    """What was learned, for the next start."""
    return msgspec.msgpack.encode(learned)


def decode(data: bytes) -> Learned | None:
    """What an earlier start has learned; None if it can't be read (any more)."""
    try:
        return msgspec.msgpack.decode(data, type=Learned)
    except (msgspec.DecodeError, ValueError):
        return None
