"""Slurm's durations and points in time, read and written."""

import re
from datetime import UTC, datetime
from typing import Final

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

MAX_SECONDS: Final = 365 * DAY
"""Longer than any walltime that we ask for. Slurm's own limit is near 2**32 minutes."""

FIRST_TIME: Final = 10**9
LAST_TIME: Final = 10**11
"""Unix seconds outside of these are not the time of a job but a sign of something else."""

UNLIMITED: Final = float("inf")

_CLOCK: Final = re.compile(r"(\d{1,9})(?::(\d{1,2}))?(?::(\d{1,2}))?", re.ASCII)
_DAYS: Final = re.compile(r"(\d{1,6})-(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?", re.ASCII)
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_NEVER: Final = frozenset({"", "N/A", "NONE", "(NULL)", "NOT_SET", "INVALID", "UNKNOWN"})


def parse_duration(text: str) -> int:
    """Seconds of ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours`` with
    ``:minutes`` and ``:seconds`` or without: every form that sbatch(1) reads. Raises ValueError.
    """
    days = _DAYS.fullmatch(text)
    if days is not None:
        parts = [int(part or 0) for part in days.groups()]
        seconds = parts[0] * DAY + parts[1] * HOUR + parts[2] * MINUTE + parts[3]
        rest = parts[1:]
        bounds = (24, MINUTE, MINUTE)
    else:
        clock = _CLOCK.fullmatch(text)
        if clock is None:
            raise ValueError(f"not a duration such as 30, 2:00:00 or 1-12:00:00: {text[:40]!r}")
        rest = [int(part) for part in clock.groups() if part is not None]
        first = rest.pop(0)
        # Two parts are minutes and seconds, three begin with hours.
        seconds = (first * MINUTE + sum(rest)) if len(rest) < 2 else _clock(first, *rest)
        bounds = (MINUTE, MINUTE, MINUTE)
    if any(part >= bound for part, bound in zip(rest, bounds, strict=False)):
        raise ValueError(f"a part of this duration is too large: {text[:40]!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """``1-12:00:00`` or ``02:00:00``; a part of a second counts as one."""
    whole = int(-(-seconds // 1))
    if not 0 <= whole <= MAX_SECONDS:
        raise ValueError(f"not a duration of 0 to {MAX_SECONDS} seconds: {seconds}")
    days, rest = divmod(whole, DAY)
    clock = f"{rest // HOUR:02}:{rest % HOUR // MINUTE:02}:{rest % MINUTE:02}"
    return f"{days}-{clock}" if days else clock


def limit(text: str) -> float | None:
    """A time limit as squeue and sinfo show it: seconds, `UNLIMITED`, or None if it is not set."""
    word = text.strip().upper()
    if word in {"UNLIMITED", "INFINITE"}:
        return UNLIMITED
    try:
        return parse_clock(word)
    except ValueError:
        return None


def parse_clock(text: str) -> int:
    """Seconds of a duration as Slurm shows it, where a single number never is minutes."""
    if text.isdigit():
        raise ValueError(f"not a duration as Slurm shows it: {text[:40]!r}")
    return parse_duration(text)


def when(text: str) -> float | None:
    """A point in time in Unix seconds, None if there is none.

    We ask for Unix seconds (SLURM_TIME_FORMAT=%s) and for UTC, so a Slurm that knows only its
    standard form tells it in UTC.
    """
    word = text.strip()
    if word.upper() in _NEVER:
        return None
    if word.isascii() and word.isdigit():
        return moment(int(word[:20]))
    if _ISO.fullmatch(word) is None:
        return None
    try:
        return moment(datetime.fromisoformat(word).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def moment(seconds: float) -> float | None:
    """`seconds` if they can be a job's time."""
    return float(seconds) if FIRST_TIME <= seconds <= LAST_TIME else None


def _clock(hours: int, minutes: int, seconds: int) -> int:
    return hours * HOUR + minutes * MINUTE + seconds
