"""Job states in full, and what each of them means to whoever keeps the number of jobs.

Slurm tells a base state (``PENDING``) and flags beside it (``COMPLETING``, ``REQUEUED``). Text
formats show one word of the two, JSON shows a word or, from 23.11 on, a list of all of them.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec


class JobState(StrEnum):
    """squeue(1), "JOB STATE CODES", of 20.11 to 24.11."""

    BOOT_FAIL = "BOOT_FAIL"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    DEADLINE = "DEADLINE"
    EXPEDITING = "EXPEDITING"
    FAILED = "FAILED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PENDING = "PENDING"
    POWER_UP_NODE = "POWER_UP_NODE"
    PREEMPTED = "PREEMPTED"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    RESIZING = "RESIZING"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    REVOKED = "REVOKED"
    RUNNING = "RUNNING"
    SIGNALING = "SIGNALING"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STAGE_OUT = "STAGE_OUT"
    STOPPED = "STOPPED"
    SUSPENDED = "SUSPENDED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN = "UNKNOWN"
    """A word that we don't know: a newer Slurm, or garbage."""


class SlurmPhase(StrEnum):
    """What a state means."""

    WAITING = "waiting"
    """It holds nothing yet, or its nodes are still being made ready."""
    RUNNING = "running"
    ENDING = "ending"
    """Its processes are going or gone, its nodes not yet free."""
    OVER = "over"
    UNKNOWN = "unknown"
    """Best taken as a job that is there and must not be touched."""


class Cause(StrEnum):
    """Why a job that is over has ended."""

    NONE = ""
    """It is not over, or nobody can tell."""
    DONE = "done"
    FAILED = "failed"
    """The job's own doing: a worker that exits with an error, memory that was not enough."""
    NODE = "node"
    """The node's or Slurm's doing."""
    EXPIRED = "expired"
    """Out of walltime."""
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """It never ran: sbatch was told no, yet Slurm keeps a record of it."""


_PHASES: Final[dict[JobState, SlurmPhase]] = {
    JobState.PENDING: SlurmPhase.WAITING,
    JobState.CONFIGURING: SlurmPhase.WAITING,
    JobState.POWER_UP_NODE: SlurmPhase.WAITING,
    JobState.EXPEDITING: SlurmPhase.WAITING,
    JobState.REQUEUED: SlurmPhase.WAITING,
    JobState.REQUEUE_FED: SlurmPhase.WAITING,
    JobState.REQUEUE_HOLD: SlurmPhase.WAITING,
    JobState.RESV_DEL_HOLD: SlurmPhase.WAITING,
    JobState.SPECIAL_EXIT: SlurmPhase.WAITING,
    JobState.RUNNING: SlurmPhase.RUNNING,
    JobState.RESIZING: SlurmPhase.RUNNING,
    JobState.SIGNALING: SlurmPhase.RUNNING,
    JobState.STOPPED: SlurmPhase.RUNNING,
    JobState.SUSPENDED: SlurmPhase.RUNNING,
    JobState.COMPLETING: SlurmPhase.ENDING,
    JobState.STAGE_OUT: SlurmPhase.ENDING,
    JobState.UNKNOWN: SlurmPhase.UNKNOWN,
}
"""All others are over."""

_CAUSES: Final[dict[JobState, Cause]] = {
    JobState.COMPLETED: Cause.DONE,
    JobState.FAILED: Cause.FAILED,
    JobState.OUT_OF_MEMORY: Cause.FAILED,
    JobState.BOOT_FAIL: Cause.NODE,
    JobState.LAUNCH_FAILED: Cause.NODE,
    JobState.NODE_FAIL: Cause.NODE,
    JobState.RECONFIG_FAIL: Cause.NODE,
    JobState.DEADLINE: Cause.EXPIRED,
    JobState.TIMEOUT: Cause.EXPIRED,
    JobState.PREEMPTED: Cause.PREEMPTED,
    JobState.CANCELLED: Cause.CANCELLED,
    JobState.REVOKED: Cause.CANCELLED,
}

_NODE_REASONS: Final = frozenset({"JobLaunchFailure", "NodeDown", "Prolog"})
"""A job that is FAILED for one of these never had a chance; squeue(1), "JOB REASON CODES"."""

_COMPACT: Final[dict[str, JobState]] = {
    "BF": JobState.BOOT_FAIL,
    "CA": JobState.CANCELLED,
    "CD": JobState.COMPLETED,
    "CF": JobState.CONFIGURING,
    "CG": JobState.COMPLETING,
    "DL": JobState.DEADLINE,
    "EX": JobState.EXPEDITING,
    "F": JobState.FAILED,
    "LF": JobState.LAUNCH_FAILED,
    "NF": JobState.NODE_FAIL,
    "OOM": JobState.OUT_OF_MEMORY,
    "PD": JobState.PENDING,
    "PR": JobState.PREEMPTED,
    "R": JobState.RUNNING,
    "RC": JobState.RECONFIG_FAIL,
    "RD": JobState.RESV_DEL_HOLD,
    "RF": JobState.REQUEUE_FED,
    "RH": JobState.REQUEUE_HOLD,
    "RQ": JobState.REQUEUED,
    "RS": JobState.RESIZING,
    "RV": JobState.REVOKED,
    "S": JobState.SUSPENDED,
    "SE": JobState.SPECIAL_EXIT,
    "SI": JobState.SIGNALING,
    "SO": JobState.STAGE_OUT,
    "ST": JobState.STOPPED,
    "TO": JobState.TIMEOUT,
}

_HELD: Final = frozenset({JobState.REQUEUE_HOLD, JobState.RESV_DEL_HOLD, JobState.SPECIAL_EXIT})
_HALTED: Final = frozenset({JobState.STOPPED, JobState.SUSPENDED})

_FLAGS: Final = (
    JobState.COMPLETING,
    JobState.STAGE_OUT,
    JobState.SPECIAL_EXIT,
    JobState.REQUEUE_HOLD,
    JobState.RESV_DEL_HOLD,
    JobState.REQUEUE_FED,
    JobState.REQUEUED,
    JobState.EXPEDITING,
    JobState.CONFIGURING,
    JobState.POWER_UP_NODE,
    JobState.RESIZING,
    JobState.SIGNALING,
    JobState.STOPPED,
    JobState.REVOKED,
    JobState.RECONFIG_FAIL,
    JobState.LAUNCH_FAILED,
)
"""Words that stand beside a base state; the first one there says most about the job."""

# sacct(1) writes "CANCELLED by 1000", and long words may be cut off with a plus.
_WORD: Final = re.compile(r"\s*([A-Za-z_]+)\+?(?:\s+by\s+(\d{1,10}))?\s*", re.ASCII)
_SHORTEST_CUT: Final = 6
"""``CANCEL+`` can be told, ``RE+`` can't."""


class State(msgspec.Struct, frozen=True):
    """A job's state as Slurm told it: one word of `words`, and all of them."""

    main: JobState
    words: tuple[str, ...] = ()
    """Every word as it was told, for logs and for what we don't know."""
    by: int | None = None
    """Who cancelled it, as a user id, where that is told."""

    @property
    def phase(self) -> SlurmPhase:
        """Waiting, running, ending, over, or unknown."""
        return _PHASES.get(self.main, SlurmPhase.OVER)

    @property
    def held(self) -> bool:
        """Whether it waits for a person to release it."""
        return self.main in _HELD

    @property
    def halted(self) -> bool:
        """Whether it has its nodes, but its processes are stopped."""
        return self.main in _HALTED

    def cause(self, reason: str = "") -> Cause:
        """Why the job has ended, also told by Slurm's `reason` for it."""
        if self.main is JobState.FAILED and reason == "BadConstraints":
            return Cause.REFUSED
        if self.main is JobState.FAILED and reason in _NODE_REASONS:
            return Cause.NODE
        return _CAUSES.get(self.main, Cause.NONE)


def parse(text: str) -> State:
    """The state in a long or compact word; ``UNKNOWN`` for any other text."""
    return of([text])


def of(words: Iterable[str]) -> State:
    """The state in a base state and its flags, in any order."""
    told = tuple(words)
    found: list[JobState] = []
    by = None
    for word in told:
        match = _WORD.fullmatch(word)
        if match is None:
            continue
        found.append(_word(match[1].upper(), cut="+" in word))
        if match[2] is not None:
            by = int(match[2])
    known = [state for state in found if state is not JobState.UNKNOWN]
    if not known:
        return State(JobState.UNKNOWN, told, by)
    main = next((flag for flag in _FLAGS if flag in known), known[0])
    return State(main, told, by)


def _word(word: str, *, cut: bool) -> JobState:
    if word in _COMPACT:
        return _COMPACT[word]
    if word in JobState.__members__:
        return JobState[word]
    if cut and len(word) >= _SHORTEST_CUT:
        longer = [state for state in JobState if state.startswith(word)]
        if len(longer) == 1:
            return longer[0]
    return JobState.UNKNOWN
