"""What counts against limits: how much, in which window, over all edge processes. No I/O.

A process alone counts by itself, and tells the store once a second, so that a restart forgets
nothing. One of several admits requests only out of *leases*: the store has counted these already,
so that all processes together never go beyond a limit, whatever they know of each other. A lease
is a small part of what is left; one that is not used is given back at the next sync. Tokens, which
are known only when a request is over, and what is there at this moment are told once a second.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from headrace.gateway.policy import windows
from headrace.gateway.policy.quotas import Quota, QuotaSet
from headrace.gateway.policy.records import LimitWindow

MAX_COUNTERS: Final = 200_000
"""More than that are not remembered; a request that needs one more is not limited by it."""

_NEVER: Final = float("inf")

Name = tuple[str, int]
"""A counter and the beginning of its window, in Unix seconds."""

Value = tuple[str, int, float, int]
"""A counter's name, the beginning and the end of its window, and its value."""


class Count(msgspec.Struct):
    """One counter in one window."""

    begins: int
    ends: float
    base: int = 0
    """What the store has, as of the last time that it said so."""
    pending: int = 0
    """What was counted here since, and not told."""
    lease: int = 0
    """What the store has counted for us, and we have not used yet."""
    idle: bool = False
    """Whether it was not looked at since the last sync."""

    @property
    def used(self) -> int:
        """All that is known to be used; leases of others count as used."""
        return self.base + self.pending - self.lease


Pair = tuple[Quota, Count]


class LimitSet:
    """What counts against the requests of one kind, with its counters in the windows of now."""

    __slots__ = ("begins", "counted", "ends", "requests", "tokens")

    def __init__(self, counted: QuotaSet) -> None:
        self.counted = counted
        self.begins = self.ends = 0.0
        """Between these, in Unix seconds, the counters are those to go by."""
        self.requests: list[Pair] = []
        self.tokens: list[Pair] = []


class QuotaStatus(msgspec.Struct, frozen=True, gc=False):
    """How a quota stands before the request: what is left of it, and when it begins anew."""

    quota: Quota
    left: int
    """What may still be used; nothing, or less, where it is used up."""
    ends: float
    """In Unix seconds; infinity for what has no window."""


class Counters:
    """Counters in windows, and what is there at this moment."""

    def __init__(self) -> None:
        self.others = 0
        """How many other edge processes there are."""
        self._counts: dict[Name, Count] = {}
        self._here: dict[str, int] = {}
        self._elsewhere: Mapping[str, int] = {}
        self._current: dict[LimitWindow, tuple[int, float]] = {}

    def turn(self, tab: LimitSet, now: float) -> None:
        """See to it that `tab` has the counters of the windows that hold `now`."""
        if tab.begins <= now < tab.ends:
            return
        tab.requests = [(quota, self._count(quota, now)) for quota in tab.counted.requests]
        tab.tokens = [(quota, self._count(quota, now)) for quota in tab.counted.tokens]
        counts = [count for _, count in tab.requests + tab.tokens]
        tab.begins = max((count.begins for count in counts), default=0)
        tab.ends = min((count.ends for count in counts), default=_NEVER)

    def full(self, quotas: Iterable[Quota]) -> bool:
        """Whether of what is there at this moment there is as much as may be."""
        here, elsewhere = self._here, self._elsewhere
        for quota in quotas:
            counter = quota.counter
            if here.get(counter, 0) + elsewhere.get(counter, 0) >= quota.value:
                return True
        return False

    def standings(self, quotas: Iterable[Quota], now: float) -> list[QuotaStatus]:
        """How each quota stands."""
        found = []
        here, elsewhere = self._here, self._elsewhere
        for quota in quotas:
            if quota.window is LimitWindow.NOW:
                used = here.get(quota.counter, 0) + elsewhere.get(quota.counter, 0)
                found.append(QuotaStatus(quota, quota.value - used, _NEVER))
            else:
                count = self._count(quota, now)
                found.append(QuotaStatus(quota, quota.value - count.used, count.ends))
        return found

    def short(self, tab: LimitSet) -> list[Quota]:
        """Those for which a lease is needed before a request is counted."""
        if not self.others:
            return []
        return [quota for quota, count in tab.requests if count.lease <= 0]

    def enter(self, tab: LimitSet) -> None:
        """Count a request: in the leases that there are, or else here."""
        for _, count in tab.requests:
            if count.lease > 0:
                count.lease -= 1
            else:
                count.pending += 1
        here, counted = self._here, tab.counted
        for quota in counted.concurrency + counted.queued:
            here[quota.counter] = here.get(quota.counter, 0) + 1

    def leave(self, quotas: Iterable[Quota]) -> None:
        """One less is there at this moment."""
        here = self._here
        for quota in quotas:
            value = here.get(quota.counter, 0) - 1
            if value > 0:
                here[quota.counter] = value
            else:
                here.pop(quota.counter, None)

    def charge(self, tab: LimitSet, tokens: int, now: float) -> None:
        """Count tokens in the windows that hold `now`."""
        self.turn(tab, now)
        for _, count in tab.tokens:
            count.pending += tokens
            count.idle = False

    # --- the store ------------------------------------------------------------------------------

    def touched(self) -> list[Name]:
        """The counters that were looked at since the last `news`."""
        return [name for name, count in self._counts.items() if not count.idle]

    def unsaid(self, names: Iterable[Name]) -> dict[Name, tuple[float, int]]:
        """What the store does not know yet: each window's end, and how much."""
        return {
            name: (count.ends, count.pending)
            for name in names
            if (count := self._counts.get(name)) is not None and count.pending
        }

    def news(self, *, last: bool = False) -> dict[Name, tuple[float, int]]:
        """All that the store does not know yet, with the leases that are given back.

        Those that were not looked at since the last call; with `last`, all.
        """
        for count in self._counts.values():
            if count.lease and (count.idle or last):
                count.pending -= count.lease
                count.lease = 0
            count.idle = True
        return self.unsaid(self._counts)

    def said(self, told: Mapping[Name, tuple[float, int]], values: Iterable[Value]) -> None:
        """The store has taken that in, and has these values now."""
        for name, (_, amount) in told.items():
            if name in self._counts:
                self._counts[name].pending -= amount
        for name_, begin, ends, value in values:
            self._counts.setdefault((name_, begin), Count(begin, ends)).base = value

    def lease(self, granted: Mapping[Name, int]) -> None:
        """The store has counted so much for us."""
        for name, amount in granted.items():
            if name in self._counts:
                self._counts[name].lease += amount

    def owe(self, name: Name, amount: int) -> None:
        """What is leased though the store could not be asked is to be told to it later."""
        if name in self._counts:
            self._counts[name].pending += amount

    def forget(self, now: float) -> None:
        """Windows that are over, and of which the store knows all."""
        over = [
            name for name, count in self._counts.items() if count.ends <= now and not count.pending
        ]
        for name in over:
            del self._counts[name]

    @property
    def here(self) -> dict[str, int]:
        """What is there at this moment, in this process."""
        return dict(self._here)

    def hear(self, elsewhere: Mapping[str, int]) -> None:
        """What is there at this moment in all other processes together."""
        self._elsewhere = elsewhere

    # --- inside ---------------------------------------------------------------------------------

    def _count(self, quota: Quota, now: float) -> Count:
        begin, ends = self._current.get(quota.window, (0, 0.0))
        if not begin <= now < ends:
            begin, ends = windows.begin(quota.window, now), windows.end(quota.window, now)
            self._current[quota.window] = begin, ends
        count = self._counts.get((quota.counter, begin))
        if count is None:
            count = Count(begin, ends)
            if len(self._counts) < MAX_COUNTERS:
                self._counts[quota.counter, begin] = count
        count.idle = False
        return count


def least(pairs: Iterable[Pair]) -> QuotaStatus | None:
    """How the quota stands of which the least is left; of several the one that ends last."""
    found: QuotaStatus | None = None
    for quota, count in pairs:
        count.idle = False
        left = quota.value - count.base - count.pending + count.lease
        if found is None or left < found.left or (left == found.left and count.ends > found.ends):
            found = QuotaStatus(quota, left, count.ends)
    return found


def name_of(quota: Quota, now: float) -> Name:
    """The counter of a quota in the window that holds `now`."""
    return quota.counter, windows.begin(quota.window, now)
