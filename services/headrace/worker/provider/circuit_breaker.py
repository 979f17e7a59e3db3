"""Whether a provider should get requests now. A state machine without I/O or clock."""

from typing import Final

FIRST_SECONDS: Final = 1.0

UNASKED_SECONDS: Final = 300.0
"""The longest that a provider can ask us to be silent: after that it is tried again."""


class CircuitBreaker:
    """Backs off after failures, doubly long each time up to `longest`. `now` is any clock.

    After a failure a provider is in doubt until it has answered a probe; one that only asked for
    fewer requests is not, and gets them when its time is over.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._failures = 0
        self._until = 0.0
        self.reason = ""
        """Why it is in doubt; empty where it is not."""

    def failed(self, reason: str, now: float) -> None:
        """It could not answer, or would not."""
        self._rest(0.0, now)
        self.reason = reason

    def busy(self, seconds: float, now: float) -> None:
        """It wants fewer requests, for so long if it says so."""
        self._rest(seconds, now)

    def answered(self, now: float) -> None:
        """It is there."""
        self.reason = ""
        if now >= self._until:
            self._failures = 0

    def wait(self, now: float) -> float:
        """Seconds until it should be asked again."""
        return max(0.0, self._until - now)

    def open(self, now: float) -> bool:
        """Whether it should get requests."""
        return not self.reason and now >= self._until

    def _rest(self, seconds: float, now: float) -> None:
        own = min(self._longest, FIRST_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        self._until = max(self._until, now + max(own, min(seconds, UNASKED_SECONDS)))
