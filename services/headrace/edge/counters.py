"""What counts against limits: how much, in which window, over all edge processes.

Here in one process. With a store, `sync` tells it once a second what was counted here, and hears
what was counted elsewhere. Between two syncs a process gives out its share of what was left at the
last one, and asks the store for what is beyond: see `short`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from headrace.gateway import windows
from headrace.gateway.quotas import Quota
from headrace.gateway.records import MOMENTARY, Metric, Window

MAX_COUNTERS: Final = 200_000
"""More than that are not remembered beyond their windows' ends."""

Name = tuple[str, int]
"""A counter and the beginning of its window, in Unix seconds."""


class Count(msgspec.Struct):
    """One counter in one window."""

    ends: float
    base: int = 0
    """What the store has, as of the last sync."""
    pending: int = 0
    """What was counted here since."""

    @property
    def value(self) -> int:
        """All that is known."""
        return self.base + self.pending


class Standing(msgspec.Struct, frozen=True):
    """How a quota stands: what was used of it before the request, and when it begins anew."""

    quota: Quota
    used: int
    ends: float
    """In Unix seconds; infinity for what has no window."""

    @property
    def left(self) -> int:
        """What may still be used."""
        return max(0, self.quota.value - self.used)


class Counters:
    """Counters in windows, and what is there at this moment."""

    def __init__(self) -> None:
        self.others = 0
        """How many other edge processes there are."""
        self._counts: dict[Name, Count] = {}
        self._here: dict[str, int] = {}
        self._elsewhere: Mapping[str, int] = {}

    def standings(self, quotas: Iterable[Quota], now: float) -> list[Standing]:
        """How each quota stands."""
        return [self._standing(quota, now) for quota in quotas]

    def short(self, standings: Sequence[Standing], now: float) -> list[Standing]:
        """Those of which this process alone cannot say that a request is within the limit.

        If every process gives out no more than its share of what was left at the last sync, all
        together stay within the limit.
        """
        if not self.others:
            return []
        found = []
        for standing in standings:
            quota = standing.quota
            if quota.metric is Metric.REQUESTS:
                count = self._count(quota, now)
                share = (quota.value - count.base) // (self.others + 1)
                if count.pending >= share:
                    found.append(standing)
        return found

    def add(self, quota: Quota, amount: int, now: float) -> None:
        """Count `amount` in a window, or at this moment; what is negative is given back."""
        if quota.metric in MOMENTARY:
            self._here[quota.counter] = self._here.get(quota.counter, 0) + amount
            if self._here[quota.counter] <= 0:
                del self._here[quota.counter]
        else:
            self._count(quota, now).pending += amount

    # --- the store ------------------------------------------------------------------------------

    def unsaid(self, names: Iterable[Name] | None = None) -> dict[Name, tuple[float, int]]:
        """What the store does not know yet: each window's end, and how much."""
        chosen = self._counts if names is None else names
        return {
            name: (count.ends, count.pending)
            for name in chosen
            if (count := self._counts.get(name)) is not None and count.pending
        }

    def said(self, told: Mapping[Name, tuple[float, int]], values: Mapping[Name, int]) -> None:
        """The store has taken that in, and has these values now."""
        for name, (_, amount) in told.items():
            if name in self._counts:
                self._counts[name].pending -= amount
        for name, value in values.items():
            if name in self._counts:
                self._counts[name].base = value

    def load(self, rows: Iterable[tuple[str, int, float, int]]) -> None:
        """Counters of windows that are not over, from the store: name, beginning, end, value."""
        for name, begin, ends, value in rows:
            count = self._counts.setdefault((name, begin), Count(ends))
            count.base = value

    def known(self, now: float) -> list[Name]:
        """The counters whose windows are not over. Others are forgotten."""
        over = [name for name, count in self._counts.items() if count.ends <= now]
        for name in over:
            if not self._counts[name].pending:
                del self._counts[name]
        return list(self._counts)

    @property
    def here(self) -> dict[str, int]:
        """What is there at this moment, in this process."""
        return dict(self._here)

    def hear(self, elsewhere: Mapping[str, int]) -> None:
        """What is there at this moment in all other processes together."""
        self._elsewhere = elsewhere

    # --- inside ---------------------------------------------------------------------------------

    def _standing(self, quota: Quota, now: float) -> Standing:
        if quota.window is Window.NOW:
            used = self._here.get(quota.counter, 0) + self._elsewhere.get(quota.counter, 0)
            return Standing(quota, used, float("inf"))
        return Standing(quota, self._count(quota, now).value, windows.end(quota.window, now))

    def _count(self, quota: Quota, now: float) -> Count:
        name = name_of(quota, now)
        count = self._counts.get(name)
        if count is None:
            count = Count(windows.end(quota.window, now))
            if len(self._counts) < MAX_COUNTERS:
                self._counts[name] = count
        return count


def name_of(quota: Quota, now: float) -> Name:
    """The counter of a quota in the window that holds `now`."""
    return quota.counter, windows.begin(quota.window, now)
