"""Windows of the week in which a model has a minimum of workers: ``mon-fri 08:00-18:00``."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = "|".join(DAYS)
_WHEN: Final = re.compile(
    rf"(?P<days>(?:{_DAY})(?:-(?:{_DAY}))?(?:,(?:{_DAY})(?:-(?:{_DAY}))?)*|daily)"
    r" (?P<start>[0-2]\d:[0-5]\d)-(?P<end>[0-2]\d:[0-5]\d)"
)
DAY_MINUTES: Final = 24 * 60


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At least `min` workers in a part of the week.

    `when` is days and hours: ``mon-fri 08:00-18:00``, ``sat,sun 10:00-14:00``,
    ``daily 22:00-02:00`` (the day is the one on which it starts).
    """

    when: str
    min: int

    def __post_init__(self) -> None:
        parse(self.when)
        if self.min < 0:
            raise ValueError("min is at least 0")


def parse(when: str) -> tuple[frozenset[int], int, int]:
    """Weekdays (0 is Monday), start and end in minutes of the day. Raises ValueError."""
    found = _WHEN.fullmatch(when)
    if not found:
        raise ValueError(f"not like 'mon-fri 08:00-18:00': {when!r}")
    start, end = (_minutes(found[name]) for name in ("start", "end"))
    if start in {DAY_MINUTES, end}:
        raise ValueError(f"no time between start and end: {when!r}")
    if found["days"] == "daily":
        return frozenset(range(7)), start, end
    days: set[int] = set()
    for part in found["days"].split(","):
        first, _, last = part.partition("-")
        begin, until = DAYS.index(first), DAYS.index(last or first)
        days.update((begin + step) % 7 for step in range((until - begin) % 7 + 1))
    return frozenset(days), start, end


def minimum(windows: Iterable[Window], moment: datetime) -> int:
    """The largest `min` of the windows that hold the local `moment`, 0 outside of all."""
    return max((window.min for window in windows if _holds(window, moment)), default=0)


def local(now: float, timezone: str) -> datetime:
    """The wall clock of `timezone` at Unix time `now`."""
    return datetime.fromtimestamp(now, ZoneInfo(timezone))


def _holds(window: Window, moment: datetime) -> bool:
    days, start, end = parse(window.when)
    minute = moment.hour * 60 + moment.minute
    if start < end:
        return moment.weekday() in days and start <= minute < end
    yesterday = (moment - timedelta(days=1)).weekday()
    return (moment.weekday() in days and minute >= start) or (yesterday in days and minute < end)


def _minutes(clock: str) -> int:
    hours, minutes = int(clock[:2]), int(clock[3:])
    if hours * 60 + minutes > DAY_MINUTES:
        raise ValueError(f"no such time of day: {clock}")
    return hours * 60 + minutes


def place_in(moment: datetime) -> float:
    """Where in the forecast's profile a local `moment` is: half hours, weekends after workdays."""
    hours = moment.hour + moment.minute / 60 + moment.second / 3600
    return hours * 2 + (48 if moment.weekday() >= 5 else 0)
