"""What workers tell about themselves, once a second and at every change."""

from enum import StrEnum
from typing import Final

import msgspec

MARGIN_SECONDS: Final = 15.0
"""At the end of a walltime, after the drain: the engine must end too, and clocks may differ."""


FRESH_SECONDS: Final = 3.5
"""A heartbeat comes every second: this forgives the loss of two."""


class WorkerPhase(StrEnum):
    """Where a worker is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


class WorkerState(msgspec.Struct, array_like=True, frozen=True):
    """A worker's heartbeat. `ends_at` is the end of its walltime in Unix seconds, 0 if none.

    `job` is the id of the Slurm job that it runs in, 0 if none, on `node`; `tokens` counts what
    its engine has generated since it was started.
    """

    version: int
    cluster: str
    model: str
    worker: str
    phase: WorkerPhase
    slots: int
    running: int
    reason: str = ""
    ends_at: float = 0.0
    job: int = 0
    node: str = ""
    tokens: int = 0
