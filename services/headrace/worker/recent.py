"""Requests that ended a moment ago: one that is given out again is acknowledged, not run again."""

from typing import Final

LIMIT: Final = 100_000
"""Ids remembered at most: more than a worker ends within the retention time."""


class Recent:
    """A set of ids that forgets after `seconds`."""

    def __init__(self, seconds: float, limit: int = LIMIT) -> None:
        self._seconds = seconds
        self._limit = limit
        self._ids: dict[str, float] = {}

    def __contains__(self, request: str) -> bool:
        return request in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, request: str, now: float) -> None:
        """Remember `request`."""
        self._ids.pop(request, None)  # so that the order stays that of time
        self._ids[request] = now
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]

    def expire(self, now: float) -> None:
        """Forget what was added long ago."""
        while self._ids:
            oldest = next(iter(self._ids))
            if now - self._ids[oldest] < self._seconds:
                return
            del self._ids[oldest]
