"""How long to keep a worker that is not needed: the ski rental problem, one for each level.

The k-th worker of a model is a pair of skis. Each second that it idles costs a second's rent;
letting it go costs `restart` once it is needed again: the GPU time of another load, and the waiting
meanwhile. With nothing known, keeping it for `restart` seconds costs at most twice what one would
have spent who knew the future, and no fixed rule does better. With the gaps of the past known, the
best time is the one that would have cost least on them (Karlin, Manasse, McGeoch and Owicki,
"Competitive randomized algorithms for nonuniform problems", Algorithmica 11, 1994). That workers
may be treated one by one, each with gaps of its own, is shown by Lu, Chen and Andrew, "Simple and
effective dynamic provisioning for power-proportional data centers" (IEEE TPDS 24, 2013).
"""

import math
from typing import Final

import msgspec

SHORTEST: Final = 10.0
STEP: Final = 1.4
BINS: Final = 29
"""Gaps from 10 s to two days, each bin 1.4 times the one before."""

MEMORY: Final = 40.0
"""Gaps remembered: each new one takes 1/40 from the weight of those before."""

ENOUGH: Final = 4.0
"""Gaps below which the rule for the ignorant holds."""


class IdleGaps(msgspec.Struct):
    """How long a level was not needed, as weights of logarithmic bins."""

    weights: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)

    def add(self, seconds: float) -> None:
        """Take in a gap that has ended."""
        place = math.ceil(math.log(max(seconds, SHORTEST) / SHORTEST) / math.log(STEP))
        self.weights = [weight * (1 - 1 / MEMORY) for weight in self.weights]
        self.weights[min(place, BINS - 1)] += 1.0

    def keep(self, restart: float) -> float:
        """Seconds to keep an idle worker whose restart costs `restart` worker seconds."""
        total = sum(self.weights)
        if total < ENOUGH:
            return restart
        # Let it go at once, or after any bin; beyond `restart` only the known rest could save.
        best, least = 0.0, restart * total
        idled, left = 0.0, total
        for place, weight in enumerate(self.weights):
            until = SHORTEST * STEP**place
            if until > 2 * restart:
                break
            left -= weight
            idled += weight * until
            cost = idled + left * (until + restart)
            if cost < least:
                best, least = until, cost
        return best
