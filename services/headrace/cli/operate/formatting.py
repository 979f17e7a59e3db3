"""Durations, counts and moments in few characters."""

from typing import Final

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


def duration(seconds: float) -> str:
    """Such as ``8s``, ``3m20s``, ``2h05m``, ``1d04h``: two units at most."""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02}h"


def interval(low: float, high: float) -> str:
    """A time that is known so far: ``4s`` or ``40s to 1m30s``."""
    first, last = duration(low), duration(high)
    return first if first == last else f"{first} to {last}"
