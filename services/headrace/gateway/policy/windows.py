"""Windows of time, aligned to the clock in UTC. Functions of plain values."""

import datetime
from typing import Final

from headrace.gateway.policy.records import LimitWindow

_SECONDS: Final = {LimitWindow.MINUTE: 60, LimitWindow.HOUR: 3600, LimitWindow.DAY: 86400}


def begin(window: LimitWindow, now: float) -> int:
    """When the window that holds `now` began, in Unix seconds; 0 for what has no window."""
    if window is LimitWindow.NOW:
        return 0
    if window is LimitWindow.MONTH:
        at = datetime.datetime.fromtimestamp(now, datetime.UTC)
        return int(datetime.datetime(at.year, at.month, 1, tzinfo=datetime.UTC).timestamp())
    length = _SECONDS[window]
    return int(now // length) * length


def end(window: LimitWindow, now: float) -> float:
    """When the window that holds `now` ends, in Unix seconds; infinity for what has none."""
    if window is LimitWindow.NOW:
        return float("inf")
    if window is LimitWindow.MONTH:
        at = datetime.datetime.fromtimestamp(now, datetime.UTC)
        year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
        return datetime.datetime(year, month, 1, tzinfo=datetime.UTC).timestamp()
    return float(begin(window, now) + _SECONDS[window])
