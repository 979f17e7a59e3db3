"""The rate of requests, now and a lead time ahead, from this model's own history.

Three things are learned: a smoothed rate; a profile of the day in half hours, one for workdays
and one for weekends; and how wrong forecasts over the lead time turned out. A forecast is the
profile's value then, times how far the rate is off the profile now, which fades:

    rate(t + h) = profile(t + h) * (rate(t) / profile(t)) ** 0.7

Where the profile has no value yet, the rate of now stands for the rate then.
"""

import math
from typing import Final

import msgspec

from headrace.scaler.policy.samples import Samples, quantile

BIN_SECONDS: Final = 1800.0
BINS_PER_DAY: Final = 48
WEIGHT: Final = 0.3
"""Of the newest day in the profile: a week of days tells most of it."""
PERSISTENCE: Final = 0.7
"""How much of a deviation from the profile is still there a lead time later."""
SMOOTHING: Final = (60.0, 900.0)
"""Bounds of the smoothing time in seconds. In between it is the lead time (who can't act sooner
than in ten minutes need not follow each minute), or more where bursts would be taken for a rate."""
SMOOTH_TO: Final = 0.2
"""The smoothed rate should be off by a fifth, no more."""
SCATTER_SECONDS: Final = 10.0
"""Counts over so long give the index of dispersion."""
SCATTER_COUNTS: Final = 8000.0
"""Requests after which the older half of the scatter is forgotten: some hundred bursts."""
PENDING: Final = 16
ENOUGH: Final = 8
QUANTILES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)


class Forecast(msgspec.Struct):
    """What is known of a model's rate, in requests per second."""

    rate: float = 0.0
    counts: float = 20.0
    squares: float = 20.0
    """Sums over the counts of short spans, and over the squares of how far they were off the rate;
    they begin as a few of a Poisson process."""
    profile: dict[int, float] = msgspec.field(default_factory=dict)
    """Rates by half hour, 0 to 47 on workdays and 48 to 95 on weekends."""
    errors: Samples = msgspec.field(default_factory=Samples)
    """Logarithms of actual over forecast rates."""
    factors: list[float] = msgspec.field(default_factory=lambda: [1.0])
    """Equally likely factors between a forecast and what comes, from those errors."""
    due: list[tuple[float, float]] = msgspec.field(default_factory=list)
    """Forecasts whose time has not come: when, and the rate."""
    seen_at: float = 0.0
    bin: int = -1
    bin_from: float = 0.0
    bin_count: int = 0
    scatter_from: float = 0.0
    scatter_count: int = 0

    @property
    def dispersion(self) -> float:
        """Variance over mean of the counts: 1 for a Poisson process, above it for bursts."""
        return max(self.squares / self.counts, 1.0)

    def observe(self, count: int, now: float, place: float, lead: float) -> None:
        """`count` requests came since the last call; `place` is that of `now` (see `place_in`)."""
        span = now - self.seen_at
        if not 0 < span < BIN_SECONDS:
            self._begin(now, int(place))
            return
        smoothing = self.smoothing(lead)
        self.seen_at = now
        self.rate += (count / span - self.rate) * -math.expm1(-span / smoothing)
        self._scatter(count, now)
        self._score(now, lead, smoothing, place)
        self._fill(count, now, int(place))

    def ahead(self, place: float, horizon: float, later: float) -> float:
        """The rate after `horizon` seconds, when the place in the profile will be `later`."""
        here, then = self.usual(place), self.usual(later)
        if here is None or then is None:
            return self.rate
        least = 1 / self.smoothing(horizon)
        return then * float(((self.rate + least) / (here + least)) ** PERSISTENCE)

    def usual(self, place: float) -> float | None:
        """The profile at `place`, linear between the middles of half hours."""
        day = 0 if place < BINS_PER_DAY else BINS_PER_DAY
        left = math.floor(place - 0.5)
        first = self.profile.get(max(left, day))
        second = self.profile.get(min(left + 1, day + BINS_PER_DAY - 1))
        if first is None or second is None:
            return first if second is None else second
        return first + (second - first) * (place - 0.5 - left)

    def range(self, rate: float) -> list[float]:
        """Equally likely rates around a forecast `rate`, by how wrong forecasts were."""
        return [rate * factor for factor in self.factors]

    def smoothing(self, lead: float) -> float:
        """Seconds over which the rate is smoothed, for acting `lead` seconds ahead.

        Over T seconds, exponential smoothing knows a rate r of counts with dispersion I to the
        relative error sqrt(I / (2 r T)).
        """
        bursts = self.dispersion / (2 * SMOOTH_TO**2 * max(self.rate, 1e-6))
        return min(max(lead, bursts, SMOOTHING[0]), SMOOTHING[1])

    def peakedness(self, service: float) -> float:
        """Variance over mean of the slots in use, were they endless, at `service` seconds each.

        Counts over one service time have this index of dispersion, about. Over a longer time it
        is larger, in proportion as long as bursts last longer still.
        """
        return 1 + (self.dispersion - 1) * min(1.0, service / SCATTER_SECONDS)

    def _begin(self, now: float, at: int) -> None:
        self.seen_at = self.bin_from = self.scatter_from = now
        self.bin, self.bin_count, self.scatter_count = at, 0, 0
        self.due.clear()

    def _scatter(self, count: int, now: float) -> None:
        self.scatter_count += count
        span = now - self.scatter_from
        if span < SCATTER_SECONDS:
            return
        self.counts += self.scatter_count
        self.squares += (self.scatter_count - self.rate * span) ** 2
        if self.counts > SCATTER_COUNTS:
            self.counts /= 2
            self.squares /= 2
        self.scatter_from, self.scatter_count = now, 0

    def _score(self, now: float, lead: float, smoothing: float, place: float) -> None:
        least = 1 / smoothing
        while self.due and self.due[0][0] <= now:
            _, foretold = self.due.pop(0)
            if max(foretold, self.rate) > 3 * least:
                self.errors.add(math.log((self.rate + least) / (foretold + least)))
                ordered = self.errors.ordered
                if len(ordered) >= ENOUGH:
                    self.factors = [math.exp(quantile(ordered, part)) for part in QUANTILES]
        if not self.due or self.due[-1][0] <= now + lead * (1 - 4 / PENDING):
            if len(self.due) == PENDING:
                del self.due[0]
            foretold = self.ahead(place, lead, place_after(place, lead))
            self.due.append((now + lead, foretold))

    def _fill(self, count: int, now: float, at: int) -> None:
        self.bin_count += count
        if at == self.bin:
            return
        span = now - self.bin_from
        if span > BIN_SECONDS / 2:
            rate = self.bin_count / span
            known = self.profile.get(self.bin, rate)
            self.profile[self.bin] = known + WEIGHT * (rate - known)
        self.bin, self.bin_from, self.bin_count = at, now, 0


def place_after(place: float, seconds: float) -> float:
    """The place `seconds` later, within the same kind of day."""
    day = 0 if place < BINS_PER_DAY else BINS_PER_DAY
    return day + (place - day + seconds / BIN_SECONDS) % BINS_PER_DAY
