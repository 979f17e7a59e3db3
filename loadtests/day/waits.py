"""How long Slurm lets jobs wait, and how long it expects them to."""

import math
import random
from functools import lru_cache
from typing import Final, NamedTuple

STEP: Final = 900.0
"""The queue changes over quarters of an hour; waits are correlated over an hour."""


class Waits(NamedTuple):
    """Log-normal waits around `median` seconds, at most `most`; 0 is an empty cluster."""

    median: float
    deviation: float = 0.8
    most: float = 3600.0

    def draw(self, moment: float, number: int, seed: int) -> tuple[float, float]:
        """Wait and expected wait of job `number`, submitted at `moment`.

        Slurm plans with walltimes, and jobs end before theirs: mostly it expects too much.
        """
        if not self.median:
            return 2.0, 2.0
        place = moment / STEP
        first = math.floor(place)
        level = _level(first, seed) * (first + 1 - place) + _level(first + 1, seed) * (
            place - first
        )
        source = random.Random(f"wait {seed} {number}")
        wait = self.median * math.exp(self.deviation * level + source.gauss(0, 0.15))
        wait = min(wait, self.most)
        return wait, wait * math.exp(source.gauss(math.log(1.5), 0.5))


@lru_cache(maxsize=100_000)
def _level(step: int, seed: int) -> float:
    # The mean of four quarters' noise, scaled to a deviation of 1.
    return sum(random.Random(f"{seed} {step - back}").gauss(0, 1) for back in range(4)) / 2
