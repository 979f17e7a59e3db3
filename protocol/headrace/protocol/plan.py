"""What a cluster's scaler tells the edges about one model: that it exists, and where it stands."""

from enum import StrEnum
from typing import Final

import msgspec

from headrace.protocol.endpoints import Endpoint

PLAN_SECONDS: Final = 30.0
"""A plan comes every few seconds: after this long its cluster is not believed any more."""


class ModelPhase(StrEnum):
    """A model as a waiting client sees it, worst to best."""

    FAILED = "failed"
    """It can't be started; the plan's reason says why."""
    COLD = "cold"
    """Nothing runs, and nothing is asked for."""
    PENDING = "pending"
    """A job waits in Slurm."""
    LOADING = "loading"
    """A job runs, and its engine loads."""
    READY = "ready"


class Facts(msgspec.Struct, array_like=True, frozen=True):
    """What clients may know of a model, from its file in the catalogue."""

    name: str
    endpoints: tuple[Endpoint, ...]
    modality: str = "text"
    description: str = ""
    group: str = ""


class Interval(msgspec.Struct, array_like=True, frozen=True):
    """A quantity that is known only so far: between `low` and `high`, both in the same unit."""

    low: float
    high: float


class Plan(msgspec.Struct, array_like=True, frozen=True):
    """The scaler's word on one model, every few seconds and at each change. Times in seconds.

    `ready_in` says when the next worker is likely to be ready (from `sent`, in Unix seconds, on);
    `each` how long one slot is taken by one request. Both are None where nothing is known.
    A plan with `removed` takes the model out of the edges' lists.
    """

    version: int
    cluster: str
    model: str
    facts: Facts
    phase: ModelPhase
    sent: float
    desired: int = 0
    ready: int = 0
    slots: int = 0
    pending: int = 0
    loading: int = 0
    ready_in: Interval | None = None
    each: Interval | None = None
    reason: str = ""
    removed: bool = False
    worker_slots: int = 0
    """Requests that one worker runs side by side; 0 where that is not said."""
