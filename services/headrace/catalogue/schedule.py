"""Windows of the week in which a model has a minimum of workers: ``mon-fri 08:00-18:00``."""

import re
from typing import Final

import msgspec

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60

_DAY: Final = "|".join(DAYS)
_WHEN: Final = re.compile(
    rf"(?P<days>(?:{_DAY})(?:-(?:{_DAY}))?(?:,(?:{_DAY})(?:-(?:{_DAY}))?)*|daily)"
    r" (?P<start>[0-2]\d:[0-5]\d)-(?P<end>[0-2]\d:[0-5]\d)",
    re.ASCII,
)


class ScheduleWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At least `min` workers in a part of the week.

    `when` is days and hours: ``mon-fri 08:00-18:00``, ``sat,sun 10:00-14:00``,
    ``daily 22:00-02:00`` (the day is the one on which it starts).
    """

    when: str
    min: int

    def __post_init__(self) -> None:
        parse(self.when)
        if self.min < 0:
            raise ValueError("min: at least 0")


def parse(when: str) -> tuple[frozenset[int], int, int]:
    """Weekdays (0 is Monday), start and end in minutes of the day. Raises ValueError."""
    found = _WHEN.fullmatch(when)
    if found is None:
        raise ValueError(f"when: not like 'mon-fri 08:00-18:00': {when[:80]!r}")
    start, end = _minutes(found["start"]), _minutes(found["end"])
    if start in (DAY_MINUTES, end):
        raise ValueError(f"when: no time between start and end: {when!r}")
    if found["days"] == "daily":
        return frozenset(range(7)), start, end
    days: set[int] = set()
    for part in found["days"].split(","):
        first, _, last = part.partition("-")
        begin, until = DAYS.index(first), DAYS.index(last or first)
        days.update((begin + step) % 7 for step in range((until - begin) % 7 + 1))
    return frozenset(days), start, end


def _minutes(clock: str) -> int:
    minutes = int(clock[:2]) * 60 + int(clock[3:])
    if minutes > DAY_MINUTES:
        raise ValueError(f"when: no such time of day: {clock}")
    return minutes
