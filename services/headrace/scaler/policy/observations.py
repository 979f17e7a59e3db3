"""What the scaler knows of one model at one moment: plain values, each source with its own time.

Times are Unix seconds and durations seconds, throughout this package; 0 stands for a moment that
has not come or is not known.
"""

from enum import StrEnum

import msgspec

from headrace.scaler.policy.sharing import NOBODY, PeerWorkers


class JobPhase(StrEnum):
    """Where a job of ours is, from Slurm's state and its worker's heartbeat together."""

    WAITING = "waiting"
    """Submitted; Slurm has not started it."""
    LOADING = "loading"
    """It runs, and its worker does not serve yet."""
    READY = "ready"
    """Its worker pulls requests."""
    SILENT = "silent"
    """Its worker did, and is not heard any more: not reckoned with, nor given up yet."""
    DRAINING = "draining"
    """Its worker pulls no more and finishes what it has begun."""
    ENDING = "ending"
    """Slurm is ending it."""


class ModelJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job with our record on it. Jobs of others never get here."""

    id: str
    phase: JobPhase
    submitted_at: float
    expected_start: float = 0.0
    """Slurm's own guess (``squeue --start``) while the job waits."""
    started_at: float = 0.0
    ready_at: float = 0.0
    ends_at: float = 0.0
    """End of the walltime."""
    node: str = ""
    running: int = 0
    """Requests that its worker has in work."""


class JobOutcome(StrEnum):
    """How a job ended."""

    DONE = "done"
    """Drained, out of walltime, or cancelled by us."""
    PREEMPTED = "preempted"
    """Taken by Slurm, or by a person: nothing is wrong with the model."""
    FAILED = "failed"
    """It died, its node did, or it never became ready."""


class EndedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has ended since the last observation; it is told once."""

    id: str
    at: float
    outcome: JobOutcome
    served: bool = False
    """Whether its worker was ever ready."""
    node: str = ""
    reason: str = ""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """All that a decision about one model rests on."""

    waiting: int
    """Requests that no worker has: JetStream's ``num_pending``, all lanes together."""
    running: int
    """Requests in work: JetStream's ``num_ack_pending``."""
    arrived: int
    """Requests that have come, counted from any start; a fall is taken for a restart."""
    completed: int
    """Requests that have left, counted likewise."""
    tokens: int = 0
    """Tokens generated, counted likewise; 0 where workers don't tell."""
    oldest_wait: float = 0.0
    jobs: tuple[ModelJob, ...] = ()
    ended: tuple[EndedJob, ...] = ()
    elsewhere: PeerWorkers = NOBODY
    """Workers of this model in other clusters."""
    queue_at: float
    """When the queue was last read without an error; likewise the two below."""
    jobs_at: float
    workers_at: float

    def stale(self, now: float, limit: float) -> str:
        """Which source is older than `limit` seconds, or comes from the future; "" if none."""
        sources = (("queue", self.queue_at), ("Slurm", self.jobs_at), ("workers", self.workers_at))
        for name, at in sources:
            if not -limit <= now - at <= limit:
                return name
        return ""

    def of(self, *phases: JobPhase) -> list[ModelJob]:
        """The jobs in these phases."""
        return [job for job in self.jobs if job.phase in phases]
