"""One tenant's flood in virtual time: what lanes and pulls alone do to the waiting of others.

Real parts, on a real clock, are in `tests.system.test_fairness`.
"""

import heapq
import itertools
import random
import statistics
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from headrace.edge.api.validation import lane_of
from headrace.protocol.names import LANES
from headrace.runtime.engine import Lanes
from headrace.worker.queue.pull_scheduler import Pull, PullScheduler

TRIP_SECONDS: Final = 0.002
"""From a worker to the queue, or back."""
FLOODER: Final = -1
FLOOD: Final = 1000


@dataclass
class Request:
    user: int
    edge: int
    asked: float
    seconds: float
    waited: float = -1.0


class World:
    """Edges that each count for themselves, a queue with lanes, and workers."""

    def __init__(self, *, edges: int, workers: int, slots: int) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._edges: list[Counter[int]] = [Counter() for _ in range(edges)]
        self._lanes: dict[str, deque[Request]] = {lane: deque() for lane in LANES}
        self._standing: list[tuple[float, Worker, Pull]] = []
        for _ in range(workers):
            Worker(self, slots).pump()

    def call(self, seconds: float, what: Callable[..., None], *arguments: Any) -> None:
        """Call `what` later."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), what, arguments))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= seconds:
            self.now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)

    def ask(self, request: Request) -> None:
        """Through its edge into the queue."""
        in_flight = self._edges[request.edge]
        lane = lane_of(in_flight[request.user], len(self._edges))
        in_flight[request.user] += 1
        self._lanes[lane].append(request)
        for entry in list(self._standing):
            until, worker, pull = entry
            if pull.lane == lane and self._lanes[lane]:
                self._standing.remove(entry)
                if until > self.now:
                    self._deliver(worker, lane)

    def pull(self, worker: "Worker", pull: Pull) -> None:
        """What the queue does with it."""
        for _ in range(pull.batch):
            if self._lanes[pull.lane]:
                self._deliver(worker, pull.lane)
            elif pull.expires:
                self._standing.append((self.now + pull.expires, worker, pull))
                self.call(pull.expires, self._expire, worker, pull)
                return
            else:
                self.call(TRIP_SECONDS, worker.settled, pull, "404")
                return

    def done(self, request: Request) -> None:
        """It has its answer."""
        self._edges[request.edge][request.user] -= 1

    def _expire(self, worker: "Worker", pull: Pull) -> None:
        entry = next((each for each in self._standing if each[1:] == (worker, pull)), None)
        if entry is not None:
            self._standing.remove(entry)
            self.call(TRIP_SECONDS, worker.settled, pull, "408")

    def _deliver(self, worker: "Worker", lane: str) -> None:
        request = self._lanes[lane].popleft()
        self.call(TRIP_SECONDS, worker.take, request, lane, len(self._lanes[lane]))


class Worker:
    """As `headrace.worker.queue.intake` does it."""

    def __init__(self, world: World, slots: int) -> None:
        self._world = world
        self._slots = slots
        self._puller = PullScheduler(slots, Lanes().weights)
        self._held: dict[str, list[Request]] = {lane: [] for lane in Lanes().weights}
        self._running = 0

    def pump(self) -> None:
        for held in self._held.values():
            while held and self._running < self._slots:
                self._begin(held.pop(0))
        busy = self._running + sum(map(len, self._held.values()))
        for pull in self._puller.plan(busy, self._world.now):
            self._world.call(TRIP_SECONDS, self._world.pull, self, pull)

    def take(self, request: Request, lane: str, pending: int) -> None:
        self._puller.delivered(lane, pending, self._world.now)
        self._held[lane].append(request)
        self.pump()

    def settled(self, pull: Pull, status: str) -> None:
        self._puller.settled(pull.number, pull.lane, status, self._world.now)
        self.pump()

    def _begin(self, request: Request) -> None:
        self._running += 1
        request.waited = self._world.now - request.asked
        self._world.call(request.seconds, self._end, request)

    def _end(self, request: Request) -> None:
        self._running -= 1
        self._world.done(request)
        self.pump()


def waiting(
    seed: int, *, flood: bool, edges: int = 1, workers: int = 2, seconds: float = 0.25
) -> list[float]:
    """The waiting times of ten users who ask five things each now and then, of 16 slots.

    That is half of what the slots can do. An answer takes `seconds` on average.
    """
    chance = random.Random(seed)
    world = World(edges=edges, workers=workers, slots=16 // workers)
    every = 6.25 * seconds
    mine = [
        Request(
            user, number % edges, (4 + turn) * every + chance.uniform(0, every / 16),
            seconds * chance.uniform(0.5, 1.5),
        )
        for turn in range(8)
        for user in range(10)
        for number in range(5)
    ]  # fmt: skip
    begin = chance.uniform(2, 4) * every
    floods = [
        Request(
            FLOODER, number % edges, begin + number * seconds / 250,
            seconds * chance.uniform(0.5, 1.5),
        )
        for number in range(FLOOD if flood else 0)
    ]  # fmt: skip
    for request in mine + floods:
        world.call(request.asked, world.ask, request)
    world.run(400 * seconds)
    assert all(request.waited >= 0 for request in mine + floods), "somebody starves"
    return [request.waited for request in mine]


def figures(values: list[float]) -> tuple[float, float, float]:
    """Mean, median and 90th percentile."""
    tenths = statistics.quantiles(values, n=10)
    return statistics.mean(values), tenths[4], tenths[8]


@pytest.mark.parametrize(
    ("edges", "workers", "seconds"),
    [(1, 2, 0.25), (2, 2, 0.25), (4, 2, 0.25), (1, 16, 0.25), (1, 2, 5.0), (4, 8, 5.0)],
)
def test_a_flood_at_most_doubles_the_waiting_of_others(
    edges: int, workers: int, seconds: float
) -> None:
    """Who has no slot kept free waits for one to be free, so that 1.5 times is the least."""
    calm, pressed = (
        figures(
            [
                waited
                for seed in range(2)
                for waited in waiting(
                    seed, flood=flood, edges=edges, workers=workers, seconds=seconds
                )
            ]
        )
        for flood in (False, True)
    )
    assert all(after <= 2 * before for before, after in zip(calm, pressed, strict=True))
