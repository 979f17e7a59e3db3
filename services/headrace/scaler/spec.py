"""What an operator says about the scaling of one model."""

import msgspec

from headrace.catalogue.schedule import ScheduleWindow


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scaling of one model: bounds, and one parameter that says what waiting costs.

    `patience` is the number of waiting requests that weigh as much as one worker. At 1 a worker
    is worth its GPU-hours if, on average, one request more would wait without it; at 0.1 it is
    kept for every tenth of a request, and at 10 ten requests are let wait first.
    """

    min: int = 0
    max: int = 1
    slots: int = 8
    """Requests that one worker runs side by side."""
    patience: float = 1.0
    idle_seconds: float | None = None
    """Keep a worker that is not needed for exactly so long; unset, the policy works it out."""
    schedule: tuple[ScheduleWindow, ...] = ()
    timezone: str = "UTC"
    """Of the schedule, and of the days that the policy learns by."""
    successor: bool = True
    """Whether a worker whose walltime ends is replaced ahead of it, where demand asks for it."""
    walltime_seconds: float = 0.0
    leaves_seconds: float = 0.0
    """How long before the end of its walltime a worker takes no more requests."""
    load_seconds: float = 180.0
    """Load time to reckon with until one has been measured."""
    service_seconds: float = 10.0
    """Time that a request takes in its slot, likewise."""
    load_limit_seconds: float = 1800.0
    """A job that runs for so long and is not ready has failed."""
    submissions_per_minute: int = 6
    stale_seconds: float = 30.0
    failures_to_give_up: int = 5
    """Failures in a row after which the model is marked failed."""

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max:
            raise ValueError("0 <= min <= max is needed")
        if self.slots < 1 or self.submissions_per_minute < 1 or self.failures_to_give_up < 1:
            raise ValueError("slots, submissions and failures are at least 1")
        if self.patience <= 0:
            raise ValueError("patience is above 0")
