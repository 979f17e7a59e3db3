"""The last few measurements of something, and their quantiles."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

KEPT: Final = 64
"""Enough for a tenth at either end, few enough to forget last month's cluster."""


class Samples(msgspec.Struct):
    """A bounded window of measurements, oldest first."""

    values: list[float] = msgspec.field(default_factory=list)
    ordered: list[float] = msgspec.field(default_factory=list)
    """The same, ascending: quantiles are asked for far more often than values come."""
    middle: float = 0.0

    def add(self, value: float) -> None:
        """Take a measurement in; the oldest makes room."""
        self.values.append(value)
        insort(self.ordered, value)
        if len(self.values) > KEPT:
            del self.ordered[bisect_left(self.ordered, self.values.pop(0))]
        self.middle = quantile(self.ordered, 0.5)

    def __len__(self) -> int:
        return len(self.values)

    def quantile(self, fraction: float, default: float) -> float:
        """The quantile, linear between ranks; `default` where nothing was measured."""
        return quantile(self.ordered, fraction) if self.ordered else default

    def median(self, default: float) -> float:
        """The middle measurement: one odd load or wait moves it little."""
        return self.middle if self.values else default


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """The quantile of ascending `ordered`, linear between ranks (type 7 of Hyndman and Fan)."""
    rank = (len(ordered) - 1) * fraction
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def left_over(values: Iterable[float], elapsed: float) -> list[float]:
    """What is left of durations that have lasted `elapsed` already, ascending.

    Those that ended sooner say nothing about this one. Where none lasted longer, it has outlived
    all that is known; the longer it has lasted the longer it may go on (Lindy's rule, as holds for
    heavy tails), so a fraction of `elapsed` stands for the rest.
    """
    rest = sorted(value - elapsed for value in values if value > elapsed)
    return rest or [elapsed / 8, elapsed / 3, elapsed]
