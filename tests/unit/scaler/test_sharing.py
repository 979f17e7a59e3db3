"""Clusters that share a model: the formula, and several scalers on one queue in virtual time."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol.plan import Facts, ModelPhase, Plan
from headrace.scaler.peer_clusters import MAX_PLANS, PeerClusters
from headrace.scaler.policy import sharing
from headrace.scaler.policy.sharing import (
    DOUBT_SECONDS,
    MOST,
    NOBODY,
    PATIENCE_SECONDS,
    PeerTrust,
    PeerWorkers,
)
from headrace.slurm.states import SlurmPhase
from headrace.testing.fake_cluster import FakeOptions
from tests.unit.scaler.world import MODEL, Queue, World

counts = st.integers(0, 6)
worlds = st.lists(st.tuples(counts, counts), min_size=1, max_size=5)
"""Ready and loading workers of each cluster."""


def plan(cluster: str, ready: int = 0, loading: int = 0, pending: int = 0) -> Plan:
    return Plan(1, cluster, MODEL, Facts("M", ()), ModelPhase.READY, sent=0.0, ready=ready,
                loading=loading, pending=pending)  # fmt: skip


def shares(total: int, world: list[tuple[int, int]]) -> list[int]:
    """The share of each cluster, each by its own view of the same plans."""
    plans = [plan(f"c{place}", *each) for place, each in enumerate(world)]
    return [
        sharing.share(
            total, own.ready, own.loading, sharing.others([p for p in plans if p is not own],
                                                          own.cluster)
        )
        for own in plans
    ]  # fmt: skip


@given(st.integers(0, 40), worlds)
def test_shares_add_up_to_what_is_needed(total: int, world: list[tuple[int, int]]) -> None:
    found = shares(total, world)
    there = sum(ready + loading for ready, loading in world)
    assert all(each >= 0 for each in found)
    assert sum(found) >= total
    if there >= total:
        assert sum(found) == total
    if sum(ready for ready, _ in world) >= total:
        kept = [min(each, ready) for each, (ready, _) in zip(found, world, strict=True)]
        assert sum(kept) == total, "and all of them serve already"


@given(st.integers(0, 40), worlds)
def test_needing_more_never_gives_anybody_less(total: int, world: list[tuple[int, int]]) -> None:
    pairs = zip(shares(total, world), shares(total + 1, world), strict=True)
    assert all(few <= more for few, more in pairs)


@given(st.integers(0, 40), counts, counts)
def test_alone_everything_is_ours(total: int, ready: int, loading: int) -> None:
    assert sharing.share(total, ready, loading, NOBODY) == total


@pytest.mark.parametrize(
    ("total", "ready", "loading", "others", "ours"),
    [
        (1, 1, 0, {"ready_before": 1}, 0),
        (1, 1, 0, {"ready_after": 1}, 1),
        (1, 0, 1, {"ready_after": 1}, 0),
        (1, 0, 1, {"loading_before": 1}, 0),
        (1, 1, 0, {"loading_before": 3}, 1),
        (2, 0, 1, {"ready_after": 1}, 1),
        (5, 1, 1, {"ready_before": 1, "loading_after": 1}, 3),
    ],
)
def test_who_serves_comes_before_who_loads(
    total: int, ready: int, loading: int, others: dict[str, int], ours: int
) -> None:
    assert sharing.share(total, ready, loading, PeerWorkers(**others)) == ours


def test_what_waits_elsewhere_does_not_count_and_absurd_counts_are_cut() -> None:
    assert sharing.others([plan("a", pending=9)], "m") == NOBODY
    absurd = [plan("a", 10**9, -5), plan("b", 10**9, 7), plan("z", -(10**9), 10**9)]
    assert sharing.others(absurd, "m") == PeerWorkers(
        ready_before=MOST, loading_before=7, loading_after=MOST
    )


def test_plans_of_others_are_kept_while_they_are_fresh() -> None:
    here = PeerClusters("m", 30.0)
    here.hear(plan("a", 1), 100.0)
    here.hear(plan("m", 5), 100.0)
    here.hear(plan("a", 2), 110.0)
    assert here.of(MODEL, 139.0) == PeerWorkers(ready_before=2)
    assert here.of(MODEL, 141.0) == NOBODY
    assert here.of("other", 139.0) == NOBODY
    for number in range(MAX_PLANS):
        here.hear(plan(f"n{number}"), 139.0)
    here.hear(plan("z", 1), 139.0)
    assert here.of(MODEL, 139.0) == PeerWorkers(ready_before=2), "there is a bound"
    here.forget(1000.0)
    here.hear(plan("z", 1), 1000.0)
    assert here.of(MODEL, 1000.0) == PeerWorkers(ready_after=1)


def test_a_claim_is_believed_as_long_as_the_queue_goes_down() -> None:
    trust, claim, load = PeerTrust(), PeerWorkers(ready_before=3), 30.0
    limit = PATIENCE_SECONDS + 2 * load
    assert trust.believed(NOBODY, 500.0, load, 0.0) == NOBODY
    assert trust.believed(claim, 505.0, load, 5.0) == claim, "they have only just come"
    assert trust.believed(claim, limit, load, limit + 1) == claim
    assert trust.believed(claim, limit + 1, load, limit + 2) == NOBODY
    assert trust.believed(claim, 0.0, load, limit + DOUBT_SECONDS) == NOBODY
    assert trust.believed(claim, 0.0, load, limit + DOUBT_SECONDS + 3) == claim


SERVICE_SECONDS = 20
SLOTS = 4
STEP = 10.0

LOAD_SECONDS = 30.0
LIMIT = PATIENCE_SECONDS + 2 * LOAD_SECONDS
START = LOAD_SECONDS + 3 * STEP
"""From a decision until a worker serves."""


class Served(Queue):
    """One queue, and the workers of all clusters that take from it."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0
        self.taken: list[int] = []
        """How many each of the requests in work has still to go, in seconds."""
        self._part = 0.0

    def pass_(self, seconds: float, workers: int) -> None:
        """Requests come, are taken and are done."""
        self._part += self.rate * seconds
        self.waiting += int(self._part)
        self._part %= 1.0
        self.taken = [left - int(seconds) for left in self.taken if left > seconds]
        free = max(workers * SLOTS - len(self.taken), 0)
        now = min(free, self.waiting)
        self.taken += [SERVICE_SECONDS] * now
        self.waiting -= now
        self.delivered += now
        self.running = len(self.taken)


class Clusters:
    """Several clusters that hear each other's plans."""

    def __init__(self, folder: Path, **options: FakeOptions | None) -> None:
        self.queue = Served()
        self.worlds: dict[str, World] = {}
        for name, each in options.items():
            (folder / name).mkdir()
            self.worlds[name] = World(folder / name, name, self.queue, each)
        self.gone: set[str] = set()
        """Clusters of which nothing is heard, whose workers serve nobody."""
        self.cut_off: set[str] = set()
        """Clusters whose workers get no requests, yet whose plans are heard."""

    def serving(self, *names: str) -> int:
        """Workers that take requests."""
        return sum(
            world.serves(job)
            for name, world in self.worlds.items()
            if name in (names or self.worlds.keys() - self.gone - self.cut_off)
            for job in world.jobs(SlurmPhase.RUNNING)
        )

    def jobs(self) -> int:
        """Jobs of all clusters."""
        return sum(len(world.jobs()) for world in self.worlds.values())

    def submissions(self) -> int:
        return sum(world.submissions() for world in self.worlds.values())

    def pass_(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Let time go by, at most until something holds; how long that took."""
        for step in range(int(seconds / STEP)):
            if until():
                return step * STEP
            self.queue.pass_(STEP, self.serving())
            there = [world for name, world in self.worlds.items() if name not in self.gone]
            plans = [world.round(STEP) for world in there]
            for world in self.worlds.values():
                for told in plans:
                    world.rounds.neighbours.hear(told, world.now)
        return seconds


@pytest.fixture
def two(tmp_path: Path) -> Clusters:
    return Clusters(tmp_path, north=None, south=None)


def test_two_with_a_worker_each_come_to_one_and_stay_there(two: Clusters) -> None:
    two.queue.rate = 0.1
    two.pass_(60)
    assert two.submissions() == 2, "both were asked at once"
    two.pass_(600)
    assert (two.serving("north"), two.serving("south")) == (1, 0)
    for _ in range(100):
        two.pass_(60)
        assert two.jobs() == 1
    assert two.submissions() == 2


def test_the_total_is_what_one_cluster_alone_would_have(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone = Clusters(tmp_path / "one", north=None)
    both = Clusters(tmp_path / "two", north=None, south=None)
    for each in (alone, both):
        each.queue.rate = 0.3
        each.pass_(1800)
    begun = both.submissions()
    for _ in range(60):
        alone.pass_(30)
        both.pass_(30)
        assert both.serving() == alone.serving() > 1
    assert both.submissions() == begun, "and nothing comes and goes"
    for each in (alone, both):
        each.queue.rate = 0.0
        each.pass_(1200)
        assert each.jobs() == 0


def test_the_worker_of_a_cluster_that_vanishes_is_replaced(two: Clusters) -> None:
    two.queue.rate = 0.1
    two.pass_(900)
    assert two.serving("north") == 1
    two.gone.add("north")
    took = two.pass_(600, lambda: two.serving() > 0)
    stale = two.worlds["south"].rounds.options.stale_seconds
    assert stale <= took <= stale + START
    assert two.worlds["north"].jobs(SlurmPhase.RUNNING), "which nobody ends meanwhile"
    two.gone.clear()
    two.worlds["north"].now = two.worlds["south"].now
    two.pass_(900)
    assert two.serving() == 1


def test_a_job_that_waits_for_ever_elsewhere_holds_nobody_back(tmp_path: Path) -> None:
    stuck = FakeOptions(max_running=0)
    clusters = Clusters(tmp_path, north=stuck, south=None)
    clusters.queue.rate = 0.1
    took = clusters.pass_(600, lambda: clusters.serving("south") > 0)
    assert took <= START
    clusters.pass_(300)
    assert clusters.worlds["north"].jobs() == [], "no longer needed"
    clusters.pass_(3600)
    assert clusters.serving("south") == 1
    assert clusters.submissions() == 2


def test_workers_elsewhere_that_serve_nobody_hold_us_back_for_a_while_at_most(
    two: Clusters,
) -> None:
    two.queue.rate = 0.1
    two.pass_(900)
    two.cut_off.add("north")
    two.queue.rate = 0.05
    took = two.pass_(1800, lambda: two.serving("south") > 0)
    arrival = 1 / two.queue.rate
    assert took <= arrival + LIMIT + START
    two.pass_(DOUBT_SECONDS - STEP)
    assert two.queue.waiting == 0
    assert two.serving("south") == 1
    two.cut_off.clear()
    two.pass_(1800)
    assert (two.serving("north"), two.serving("south")) == (1, 0), "and then it is believed again"


def test_a_cluster_that_lies_costs_no_more_than_waiting(two: Clusters) -> None:
    """It claims workers that it has not, and none of its own are there."""
    two.gone.add("north")
    south = two.worlds["south"]
    two.queue.rate = 0.1
    lie = msgspec.structs.replace(plan("north"), ready=10**6)
    waited = 0.0
    for _ in range(720):
        south.rounds.neighbours.hear(lie, south.now)
        two.pass_(STEP)
        waited = max(waited, south.rounds.keepers[MODEL].backlog.oldest_wait())
    assert waited <= LIMIT + START
    assert two.queue.delivered > 0.9 * two.queue.rate * 7200
