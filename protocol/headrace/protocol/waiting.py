"""How long a request is likely to wait, as an interval: from its position and what is known."""

import math
from typing import Final

import msgspec

from headrace.protocol.plan import Interval

AT_ONCE: Final = Interval(0.0, 1.0)
"""A slot is free: a worker takes the request as soon as the queue hands it out."""

LATE_SECONDS: Final = 5.0
"""The least by which something that is overdue may still be away."""


class Supply(msgspec.Struct, frozen=True):
    """What serves a model's queue now, and what is to come.

    `slots` are those of ready workers, `free` the ones of them without a request. Without any,
    `ready_in` is the time until the next worker is ready, `coming` the number of workers on their
    way and `worker_slots` what each of them runs side by side (0: not known). `each` is how long
    a request takes its slot. Intervals are in seconds; None is not known.
    """

    slots: int = 0
    free: int = 0
    coming: int = 0
    worker_slots: int = 0
    ready_in: Interval | None = None
    each: Interval | None = None


def wait(position: int, supply: Supply) -> Interval | None:
    """How long the request at `position` (1 is next) waits for a slot; None where unknown."""
    if supply.slots > 0:
        return _behind(position - supply.free, supply)
    if supply.ready_in is None:
        return None
    low, high = supply.ready_in.low, supply.ready_in.high
    if supply.worker_slots > 0 and position > supply.worker_slots:
        # The first ones fill the slots; the others wait for their ends, round by round.
        if supply.each is None:
            return None
        together = supply.worker_slots * max(supply.coming, 1)
        low += (position - 1) // together * supply.each.low
        high += (position - 1) // supply.worker_slots * supply.each.high
    return Interval(low, high)


def _behind(place: int, supply: Supply) -> Interval | None:
    """Busy slots end independently, one every `each / slots` seconds on average."""
    if place <= 0:
        return AT_ONCE
    if supply.each is None:
        return None
    return Interval(
        (place - 1) * supply.each.low / supply.slots,
        max(place * supply.each.high / supply.slots, AT_ONCE.high),
    )


def passed(interval: Interval, seconds: float) -> Interval:
    """What is left of `interval`, told `seconds` ago.

    What is overdue may well take as long again as it is late already.
    """
    late = max(seconds - interval.high, 0.0)
    return Interval(
        max(interval.low - seconds, 0.0), max(interval.high - seconds, late, LATE_SECONDS)
    )


def sooner(one: Interval | None, other: Interval | None) -> Interval | None:
    """The earlier of two events; an unknown one does not count."""
    if one is None or other is None:
        return one or other
    return Interval(min(one.low, other.low), min(one.high, other.high))


def either(one: Interval | None, other: Interval | None) -> Interval | None:
    """An interval that holds both; an unknown one does not count."""
    if one is None or other is None:
        return one or other
    return Interval(min(one.low, other.low), max(one.high, other.high))


def text(interval: Interval | None) -> str:
    """``40-90s``, or ``unknown``: for people, and stable for programs."""
    if interval is None or not math.isfinite(interval.low + interval.high):
        return "unknown"
    return f"{math.floor(interval.low)}-{math.ceil(interval.high)}s"
