"""The clock of a model: its schedule's windows, and where in the week a moment is."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from headrace.catalogue.schedule import ScheduleWindow, parse


def minimum(windows: Iterable[ScheduleWindow], moment: datetime) -> int:
    """The largest `min` of the windows that hold the local `moment`, 0 outside of all."""
    return max((window.min for window in windows if _holds(window, moment)), default=0)


def local(now: float, timezone: str) -> datetime:
    """The wall clock of `timezone` at Unix time `now`."""
    return datetime.fromtimestamp(now, ZoneInfo(timezone))


def _holds(window: ScheduleWindow, moment: datetime) -> bool:
    days, start, end = parse(window.when)
    minute = moment.hour * 60 + moment.minute
    if start < end:
        return moment.weekday() in days and start <= minute < end
    yesterday = (moment - timedelta(days=1)).weekday()
    return (moment.weekday() in days and minute >= start) or (yesterday in days and minute < end)


def place_in(moment: datetime) -> float:
    """Where in the forecast's profile a local `moment` is: half hours, weekends after workdays."""
    hours = moment.hour + moment.minute / 60 + moment.second / 3600
    return hours * 2 + (48 if moment.weekday() >= 5 else 0)
