"""A model's queue as counters: how much waits, since when, how much came and went. No I/O."""

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from headrace.runtime.nats.jetstream import ConsumerInfo

MARKS: Final = 1024
"""Remembered arrivals: enough for an hour at one round every few seconds."""


class Counts(msgspec.Struct, frozen=True):
    """A model's queue at one moment, all lanes together."""

    waiting: int = 0
    running: int = 0
    arrived: int = 0
    completed: int = 0


def counts(lanes: Iterable[ConsumerInfo]) -> Counts:
    """What the consumers of a model's lanes tell together."""
    infos = list(lanes)
    waiting = sum(info.num_pending for info in infos)
    running = sum(info.num_ack_pending for info in infos)
    delivered = sum(info.delivered.consumer_seq for info in infos)
    return Counts(waiting, running, delivered + waiting, max(delivered - running, 0))


class Backlog:
    """Follows the counts of one model to know how long its oldest request waits."""

    def __init__(self) -> None:
        self.now = Counts()
        self.at = 0.0
        self._marks: deque[tuple[int, float]] = deque(maxlen=MARKS)

    def update(self, told: Counts, at: float) -> None:
        """Take in the counts at `at`, Unix seconds."""
        if told.arrived < self.now.arrived:
            self._marks.clear()  # requests left the queue unserved, or the hub was restarted
        if not self._marks or told.arrived > self._marks[-1][0]:
            self._marks.append((told.arrived, at))
        self.now, self.at = told, at

    def oldest_wait(self) -> float:
        """Seconds that the oldest waiting request has waited, as far as it was watched."""
        if not self.now.waiting:
            return 0.0
        taken = self.now.arrived - self.now.waiting
        first = next((at for count, at in self._marks if count > taken), self.at)
        return max(self.at - first, 0.0)
