"""Many histories on all processors, and what came of them."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat

from tests.model.broken import broken
from tests.model.world import run

PORTION = 100


@dataclass
class Tally:
    """What came of some seeds."""

    seeds: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Seeds, and what was wrong."""

    def add(self, other: "Tally") -> None:
        """Take another one's numbers in."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.faults.update(other.faults)
        self.outcomes.update(other.outcomes)
        self.seen.update(other.seen)
        self.failures += other.failures


def portion(first: int, count: int, how: str = "") -> Tally:
    """Some seeds, one after the other, in this process."""
    tally = Tally()
    with broken(how):
        for seed in range(first, first + count):
            done = run(seed)
            tally.seeds += 1
            tally.steps += done.steps
            tally.faults.update(done.history.faults)
            tally.outcomes.update(done.history.outcomes)
            tally.seen.update(done.history.seen)
            if done.failure:
                tally.failures.append((seed, done.failure))
    return tally


def portions(first: int, seeds: int, how: str = "") -> Iterator[Tally]:
    """All of them, portion by portion."""
    starts = range(first, first + seeds, PORTION)
    counts = [min(PORTION, first + seeds - start) for start in starts]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(portion, starts, counts, repeat(how))
