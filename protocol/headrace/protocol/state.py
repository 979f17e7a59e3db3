"""What workers tell about themselves, once a second and at every change."""

from enum import StrEnum

import msgspec


class WorkerPhase(StrEnum):
    """Where a worker is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


class WorkerState(msgspec.Struct, array_like=True, frozen=True):
    """A worker's heartbeat. `ends_at` is the end of its walltime in Unix seconds, 0 if none."""

    version: int
    cluster: str
    model: str
    worker: str
    phase: WorkerPhase
    slots: int
    running: int
    reason: str = ""
    ends_at: float = 0.0
