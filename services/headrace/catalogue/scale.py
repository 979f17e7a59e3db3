"""How a model's jobs follow its load: the words of ``[scale]``, which the scaler's policy reads."""

from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from headrace.catalogue.schedule import ScheduleWindow
from headrace.runtime.engine import Seconds

Workers = Annotated[int, Meta(ge=0, le=1000)]
Count = Annotated[int, Meta(ge=1, le=1000)]


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds, and what waiting costs. Little of it needs to be said: the policy learns the rest."""

    min: Workers = 0
    """Workers that are there always, whatever the load."""
    max: Workers = 1
    patience: Annotated[float, Meta(gt=0, le=10_000)] = 1.0
    """The number of waiting requests that weigh as much as one worker: less is more eager."""
    idle_seconds: Annotated[float, Meta(ge=0)] | None = None
    """Keep a worker that is not needed for exactly so long; unset, the policy works it out."""
    schedule: tuple[ScheduleWindow, ...] = ()
    timezone: Annotated[str, Meta(min_length=1, max_length=64)] = "UTC"
    """Of the schedule, and of the days that the policy learns by."""
    successor: bool = True
    """Whether a worker whose walltime ends is replaced ahead of it, where demand asks for it."""
    load_seconds: Seconds = 180.0
    """Load time to reckon with until one has been measured."""
    service_seconds: Seconds = 10.0
    """Time that a request takes in its slot, likewise."""
    load_limit_seconds: Seconds = 1800.0
    """A job that runs for so long and is not ready has failed."""
    submissions_per_minute: Count = 6
    failures_to_give_up: Count = 5
    """Failures in a row after which the model is marked failed."""

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min: {self.min} is more than max = {self.max}")
        for window in self.schedule:
            if window.min > self.max:
                raise ValueError(f"schedule: {window.min} is more than max = {self.max}")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"timezone: not known here: {self.timezone!r}") from None
