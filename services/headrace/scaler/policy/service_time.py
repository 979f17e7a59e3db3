"""What a request takes in its slot, measured by Little's law from counts alone."""

from typing import Final

import msgspec

from headrace.scaler.policy.observations import Observation

SECONDS: Final = 60.0
"""A measurement spans at least so long ..."""
REQUESTS: Final = 5
"""... and so many requests, which evens out those that were under way at its ends."""
SHORTEST: Final = 0.05


class ServiceTime(msgspec.Struct):
    """A measurement in the making."""

    tokens_per_slot: float = 0.0
    """Tokens per second and busy slot, smoothed."""
    busy: float = 0.0
    begun_at: float = 0.0
    completed: int = 0
    tokens: int = 0

    def begin(self, seen: Observation, now: float) -> None:
        """Start anew: what happened since the last observation is not known."""
        self.busy, self.begun_at = 0.0, now
        self.completed, self.tokens = seen.completed, seen.tokens

    def observe(self, seen: Observation, step: float, now: float) -> float:
        """Seconds that a request takes, when there is a new measurement; otherwise 0.

        Requests in work, on average, are completions per second times seconds in work.
        """
        self.busy += seen.running * step
        completed = seen.completed - self.completed
        if now - self.begun_at < SECONDS or completed < REQUESTS:
            return 0.0
        seconds = max(self.busy / completed, SHORTEST)
        if self.busy > 0:
            speed = max(seen.tokens - self.tokens, 0) / self.busy
            self.tokens_per_slot += (speed - self.tokens_per_slot) / 8
        self.begin(seen, now)
        return seconds
