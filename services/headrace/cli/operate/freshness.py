"""How far a picture can be trusted: when it was made, and of what."""

from typing import Final

import msgspec

from headrace.catalogue.status import Status
from headrace.cli.operate.formatting import duration

ROUNDS: Final = 3
"""So many rounds may be missed before the picture is called stale: one can take long."""

LEAST_SECONDS: Final = 15.0


class Freshness(msgspec.Struct, frozen=True):
    """The age of a picture, and what is wrong with it, in sentences."""

    age: float
    stale: bool
    warnings: tuple[str, ...] = ()


def of(status: Status, now: float) -> Freshness:
    """Judge `status` at Unix time `now`."""
    limit = max(ROUNDS * status.interval, LEAST_SECONDS)
    age = max(0.0, now - status.written)
    stale = age > limit
    warnings = []
    if stale:
        warnings.append(
            f"STALE: the scaler has written nothing for {duration(age)}. It is dead or hangs; jobs "
            "go on without it, but nothing is started. See `headrace doctor` and its log."
        )
    for what, at in (("queue", status.queue_at), ("jobs", status.slurm_at)):
        old = status.written - at
        if at and old > limit:
            warnings.append(f"the {what}: last seen {duration(old)} before this picture was made")
        elif not at:
            warnings.append(f"the {what}: not seen yet")
    return Freshness(age, stale, tuple(warnings))
