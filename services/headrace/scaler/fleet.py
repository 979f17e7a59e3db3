"""One model's jobs and workers, put together from what Slurm says and what workers say. No I/O.

Slurm knows jobs, heartbeats know workers, and each may be wrong for a while: a `squeue` that fails
or lies empty, a link that is down, a submission whose answer was lost. A job is believed gone only
when Slurm has left it out twice in trustworthy answers and no worker of it is heard.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.scaler.policy.observations import EndedJob, JobOutcome, JobPhase, ModelJob
from headrace.slurm import squeue
from headrace.slurm.states import Cause, JobState, SlurmPhase

FRESH_SECONDS: Final = 5.0
"""A worker that was heard within this time is there, whatever `squeue` says."""

SILENT_SECONDS: Final = 15.0
"""A worker that was ready and was not heard for so long serves nobody: another one may be needed.
It tells of itself every second, and a connection that was cut is back within a few."""

HUNG_SECONDS: Final = 60.0
"""A worker that was ready, runs by Slurm's word and was not heard for so long, hangs."""

MISSES: Final = 2
"""Trustworthy answers of Slurm without a job until it counts as gone."""

UNSURE_SECONDS: Final = 120.0
"""A submission whose answer was lost is expected in `squeue` for so long."""


class LastHeartbeat(msgspec.Struct, frozen=True):
    """A worker's last heartbeat, and when it came, in Unix seconds."""

    state: WorkerState
    at: float


class KnownJob(msgspec.Struct):
    """A job of ours. `id` is 0 while only its submission is known."""

    submission: str
    id: int
    submitted_at: float
    spec_hash: str = ""
    phase: JobPhase = JobPhase.WAITING
    expected_start: float = 0.0
    started_at: float = 0.0
    ready_at: float = 0.0
    heard_at: float = 0.0
    ends_at: float = 0.0
    node: str = ""
    running: int = 0
    slots: int = 0
    tokens: int = 0
    reason: str = ""
    """Slurm's reason while it waits, the worker's from then on."""
    held: bool = False
    """Whether Slurm will not start it until a person says so."""
    requeued_at: float = 0.0
    """When we saw that Slurm had queued it again; what was heard before is of its former life."""
    missed: int = 0
    let_go: bool = False
    """Whether we have ended it ourselves."""
    failure: str = ""
    """Why we have, if that is its failure."""
    relieves: bool = False
    """Whether an older version's worker may go when this one is ready: one, and only once."""
    retired: bool = False
    """Whether one of the new version has taken its place."""

    @property
    def name(self) -> str:
        """How the policy calls it."""
        return str(self.id) if self.id else f"?{self.submission}"

    @property
    def job(self) -> ModelJob:
        """As the policy sees it."""
        return ModelJob(
            id=self.name,
            phase=self.phase,
            submitted_at=self.submitted_at,
            expected_start=self.expected_start,
            started_at=self.started_at,
            ready_at=self.ready_at,
            ends_at=self.ends_at,
            node=self.node,
            running=self.running,
        )


class Fleet:
    """All jobs of one model."""

    def __init__(self) -> None:
        self.known: dict[str, KnownJob] = {}
        """By submission."""

    def submitted(self, submission: str, job: int, spec_hash: str, now: float) -> None:
        """A job was submitted; `job` is 0 where the answer was lost."""
        self.known[submission] = KnownJob(submission, job, now, spec_hash, relieves=True)

    def let_go(self, name: str, failure: str = "") -> None:
        """We end this job: however it ends is no failure, unless it is why we end it."""
        known = self.named(name)
        if known is not None:
            known.let_go, known.failure = True, failure

    def named(self, name: str) -> KnownJob | None:
        """The job that the policy calls so."""
        return next((known for known in self.known.values() if known.name == name), None)

    def jobs(self) -> tuple[ModelJob, ...]:
        """What the policy sees."""
        return tuple(known.job for known in self.known.values())

    def lost(self, now: float, listening_since: float) -> list[tuple[KnownJob, str]]:
        """Jobs that serve nobody and would not end by themselves, and why."""
        found = []
        for known in self.known.values():
            served = known.phase in {JobPhase.READY, JobPhase.SILENT, JobPhase.DRAINING}
            if served and now - max(known.heard_at, listening_since) > HUNG_SECONDS:
                found.append((known, "its worker is not heard any more"))
            elif known.held:
                found.append((known, f"Slurm holds it: {known.reason}"))
        return found

    def update(
        self,
        told: Iterable[squeue.SlurmJob],
        heard: Iterable[LastHeartbeat],
        now: float,
        listening_since: float | None = None,
    ) -> list[EndedJob]:
        """Take in a trustworthy answer of Slurm, and the workers; what has ended since.

        `listening_since` is when we began to hear workers, None if we do not.
        """
        last = sorted(heard, key=lambda each: each.at)
        workers = {each.state.job: each for each in last if each.state.job}
        seen = set()
        ended = []
        for job in told:
            if job.record is None:
                continue
            submission = job.record.submission
            seen.add(submission)
            known = self.known.get(submission)
            if job.phase is SlurmPhase.OVER:
                if known is not None:
                    del self.known[submission]
                    ended.append(_ended(known, job, now))
                continue
            if known is None:
                known = KnownJob(submission, job.id, job.submitted_at or now, job.record.spec_hash)
                self.known[submission] = known
            _by_slurm(known, job, now)
            _by_worker(known, workers.get(job.id), now)
            if known.phase is JobPhase.READY and listening_since is not None:
                _by_silence(known, now - max(known.heard_at, listening_since))
        for known in [each for each in self.known.values() if each.submission not in seen]:
            if self._is_gone(known, workers.get(known.id), now):
                del self.known[known.submission]
                ended.append(_vanished(known, now))
        return ended

    def contradicts(
        self, told: Iterable[squeue.SlurmJob], heard: Iterable[LastHeartbeat], now: float
    ) -> bool:
        """Whether Slurm leaves out jobs whose workers are heard right now: it lies or errs."""
        listed = {job.id for job in told}
        alive = {
            each.state.job
            for each in heard
            if each.state.job
            and now - each.at < FRESH_SECONDS
            and each.state.phase is not WorkerPhase.GONE
        }
        return bool(alive & {known.id for known in self.known.values()} - listed)

    def _is_gone(self, known: KnownJob, worker: LastHeartbeat | None, now: float) -> bool:
        if not known.id:
            return now - known.submitted_at > UNSURE_SECONDS
        if worker is not None and now - worker.at < FRESH_SECONDS:
            return worker.state.phase is WorkerPhase.GONE
        known.missed += 1
        return known.missed >= MISSES


def _ended(known: KnownJob, job: squeue.SlurmJob, now: float) -> EndedJob:
    """How a job has ended, by Slurm's last word on it."""
    outcome = JobOutcome.FAILED if known.failure else _outcome(known, job)
    # What its memory, its walltime or Slurm's rules did not allow would go wrong anywhere.
    at_fault = known.failure or (
        job.cause in {Cause.FAILED, Cause.NODE} and job.state.main is not JobState.OUT_OF_MEMORY
    )
    node = job.nodes[0] if job.nodes else known.node
    words = known.reason if known.heard_at and job.cause is not Cause.NODE else ""
    return EndedJob(
        id=known.name,
        at=now,
        outcome=outcome,
        served=known.ready_at > 0,
        node=node if at_fault else "",
        reason=known.failure or words or job.reason or job.state.main,
    )


def _outcome(known: KnownJob, job: squeue.SlurmJob) -> JobOutcome:
    if known.let_go:
        return JobOutcome.DONE
    if job.cause in {Cause.PREEMPTED, Cause.CANCELLED}:
        return JobOutcome.PREEMPTED
    if job.cause is Cause.EXPIRED and not known.started_at:
        return JobOutcome.PREEMPTED  # a deadline that it was submitted with passed while it waited
    if job.cause in {Cause.DONE, Cause.EXPIRED}:
        # A worker that ends well, or a walltime that ends, before it was ever ready: it is no use.
        return JobOutcome.DONE if known.ready_at else JobOutcome.FAILED
    return JobOutcome.FAILED


def _vanished(known: KnownJob, now: float) -> EndedJob:
    """How a job has ended that Slurm knows no more."""
    well = known.let_go or known.ready_at
    return EndedJob(
        id=known.name,
        at=now,
        outcome=JobOutcome.DONE if well and not known.failure else JobOutcome.FAILED,
        served=known.ready_at > 0,
        node=known.node,
        reason=known.failure or (known.reason if known.heard_at else "") or "vanished",
    )


def _by_slurm(known: KnownJob, job: squeue.SlurmJob, now: float) -> None:
    known.id = job.id
    known.missed = 0
    known.held = job.state.held
    if job.phase is SlurmPhase.UNKNOWN:
        return
    if job.submitted_at:
        known.submitted_at = job.submitted_at
    if job.nodes:
        known.node = job.nodes[0]
    if job.phase is SlurmPhase.WAITING:
        if known.started_at:  # queued again by Slurm: a new start is ahead
            known.requeued_at = now
            known.started_at = known.ready_at = known.heard_at = known.ends_at = 0.0
            known.running = known.slots = 0
            known.node = ""
        known.phase = JobPhase.WAITING
        known.expected_start = job.starts_at or 0.0
        known.reason = job.reason
        return
    if not known.started_at:
        known.started_at = job.starts_at or now
        known.reason = ""
        known.let_go = False  # it was cancelled as one that waits, and had started by then
    known.ends_at = job.ends_at or 0.0
    if job.phase is SlurmPhase.ENDING:
        known.phase = JobPhase.ENDING
    elif known.phase in {JobPhase.WAITING, JobPhase.ENDING}:
        known.phase = JobPhase.LOADING


def _by_silence(known: KnownJob, seconds: float) -> None:
    if seconds > SILENT_SECONDS:
        known.phase = JobPhase.SILENT
        known.reason = f"its worker is not heard for {seconds:.0f} s"


def _by_worker(known: KnownJob, worker: LastHeartbeat | None, now: float) -> None:
    if worker is None or known.phase in {JobPhase.WAITING, JobPhase.ENDING}:
        return
    if worker.at < known.requeued_at:
        return
    state = worker.state
    known.heard_at = worker.at
    known.running, known.slots, known.tokens = state.running, state.slots, state.tokens
    known.reason = state.reason
    # Slurm's word first: with a least walltime it may give less than what was asked for.
    known.ends_at = known.ends_at or state.ends_at
    if state.phase is WorkerPhase.READY:
        known.phase = JobPhase.READY
        known.ready_at = known.ready_at or now
    elif state.phase is WorkerPhase.DRAINING:
        known.phase = JobPhase.DRAINING
    elif state.phase is WorkerPhase.GONE:
        known.phase = JobPhase.ENDING
