"""Which workers of a model were needed when: what pauses they had, and what came after pauses."""

from typing import Final

import msgspec

from headrace.scaler.policy.scale_down import IdleGaps

MOST: Final = 64


class Levels(msgspec.Struct):
    """Level k is the k-th worker of a model (from 1), whichever job that is."""

    gaps: list[IdleGaps] = msgspec.field(default_factory=list)
    """For each level how long its pauses were."""
    needed_at: list[float] = msgspec.field(default_factory=list)
    """When each was needed last."""
    count: int = 0
    """How many are needed."""
    clump: float = 1.0
    """Requests from one long pause to the next."""
    crowd: float = 1.0
    """Requests within a lead time of the first after a long pause: who waits for a cold start."""
    clump_count: int = 0
    crowd_count: int = 0
    crowd_from: float = 0.0

    def came(self, requests: int, now: float, lead: float) -> None:
        """Requests came. To be told before what is needed by them."""
        self.clump_count += requests
        if not self.crowd_from:
            self.crowd_count = requests
            return
        self.crowd_count += requests
        if now - self.crowd_from > lead:
            self.crowd += (max(self.crowd_count, 1) - self.crowd) / 8
            self.crowd_from = 0.0

    def needed(self, count: int, now: float, pause: float) -> None:
        """So many are needed now; from `pause` seconds on a pause of the first is a long one."""
        for level in range(min(count, MOST)):
            if level == len(self.needed_at):
                self.needed_at.append(now)
                self.gaps.append(IdleGaps())
            elif level >= self.count:
                gap = now - self.needed_at[level]
                self.gaps[level].add(gap)
                if level == 0 and gap > pause:
                    self._after_pause(now)
            self.needed_at[level] = now
        self.count = count

    def _after_pause(self, now: float) -> None:
        # The newest requests, which ended the pause, are the first of the next clump.
        self.clump += (max(self.clump_count - self.crowd_count, 1) - self.clump) / 10
        self.clump_count = self.crowd_count
        self.crowd_from = now
