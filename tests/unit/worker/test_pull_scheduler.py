"""The puller, by example and against a queue that delivers, stays silent and loses at random."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.worker.queue.pull_scheduler import (
    BATCH_SECONDS,
    GRACE_SECONDS,
    LOOK_SECONDS,
    RETRY_SECONDS,
    STALE_SECONDS,
    STANDING_SECONDS,
    Pull,
    PullScheduler,
)

WEIGHTS = {"high": 8, "normal": 4, "low": 1}
EXTRA = len(WEIGHTS) - 1


def lanes(pulls: list[Pull]) -> dict[str, int]:
    return {pull.lane: pull.batch for pull in pulls}


def with_backlog(lane: str, *, slots: int) -> PullScheduler:
    """A puller that has just heard of 1000 requests in `lane`, and that the others are empty."""
    puller = PullScheduler(slots, WEIGHTS)
    for pull in puller.plan(0, 0.0):
        if pull.lane != lane:
            puller.settled(pull.number, pull.lane, "408", 0.0)
    puller.delivered(lane, 1000, 0.0)
    return puller


def test_an_idle_worker_has_one_standing_pull_in_each_lane() -> None:
    puller = PullScheduler(8, WEIGHTS)
    pulls = puller.plan(0, 0.0)
    assert lanes(pulls) == {"high": 1, "normal": 1, "low": 1}
    assert all(pull.expires > 0 for pull in pulls)
    assert puller.plan(0, 0.1) == []


def test_a_busy_worker_asks_for_nothing() -> None:
    assert PullScheduler(2, WEIGHTS).plan(2, 0.0) == []


def test_a_told_backlog_is_taken_in_one_pull() -> None:
    puller = PullScheduler(8, WEIGHTS)
    puller.plan(0, 0.0)
    puller.delivered("normal", 100, 0.1)
    (batch, *others) = puller.plan(1, 0.1)
    assert (batch.lane, batch.batch, batch.expires) == ("normal", 7, 0.0)
    assert not others, "all slots are spoken for"


def test_a_small_backlog_leaves_room_for_a_standing_pull() -> None:
    puller = PullScheduler(8, WEIGHTS)
    puller.plan(0, 0.0)
    puller.delivered("normal", 2, 0.1)
    assert lanes(puller.plan(1, 0.1)) == {"normal": 2}
    puller.delivered("normal", 1, 0.2)
    puller.delivered("normal", 0, 0.2)
    (standing,) = puller.plan(3, 0.2)
    assert standing.lane == "normal"
    assert standing.expires > 0


def test_slots_are_shared_out_by_weight() -> None:
    puller = PullScheduler(1000, WEIGHTS)
    puller.plan(0, 0.0)
    for lane in WEIGHTS:
        puller.delivered(lane, 10_000, 0.1)
    assert lanes(puller.plan(1000 - 130, 0.1)) == {"high": 80, "normal": 40, "low": 10}


def test_freed_slots_one_at_a_time_go_by_weight_too() -> None:
    puller = PullScheduler(4, WEIGHTS)
    puller.plan(0, 0.0)
    for lane in WEIGHTS:
        puller.delivered(lane, 10_000, 0.0)
    shares: Counter[str] = Counter()
    for _ in range(130):
        for pull in puller.plan(3, 0.0):
            shares[pull.lane] += pull.batch
            puller.delivered(pull.lane, 10_000, 0.0)
    assert shares == {"high": 80, "normal": 40, "low": 10}


def test_a_backlog_does_not_hide_a_lane_that_was_empty() -> None:
    puller = with_backlog("high", slots=4)
    assert lanes(puller.plan(3, 0.1)) == {"high": 1}
    puller.delivered("high", 999, 0.1)
    later = puller.plan(3, 0.1 + STALE_SECONDS)
    assert lanes(later) == {"low": 1, "high": 1, "normal": 1}
    assert all(pull.expires == 0 for pull in later), "a look, not a wait: the slot is taken"


def test_a_lane_above_a_backlog_is_looked_into_before_the_slot_is_given_away() -> None:
    puller = with_backlog("normal", slots=4)
    (look,) = puller.plan(3, LOOK_SECONDS)
    assert (look.lane, look.batch, look.expires) == ("high", 1, 0.0)
    assert puller.plan(3, LOOK_SECONDS) == [], "the slot waits for the answer"
    puller.settled(look.number, "high", "404", LOOK_SECONDS)
    assert lanes(puller.plan(3, LOOK_SECONDS)) == {"normal": 1}


def test_what_a_look_brings_takes_the_slot() -> None:
    puller = with_backlog("low", slots=4)
    looks = puller.plan(3, LOOK_SECONDS)
    assert lanes(looks) == {"high": 1, "normal": 1}
    puller.delivered("high", 0, LOOK_SECONDS)
    puller.settled(looks[1].number, "normal", "404", LOOK_SECONDS)
    assert puller.plan(4, LOOK_SECONDS) == []


def test_looks_do_not_keep_a_lane_below_waiting_for_ever() -> None:
    """A single slot, and above the backlog always somebody who has just come."""
    puller = PullScheduler(1, WEIGHTS)
    puller.plan(0, 0.0)
    for lane in ("high", "normal"):
        puller.delivered(lane, 0, 0.0)
    puller.delivered("low", 10_000, 0.0)
    taken: Counter[str] = Counter()
    for turn in range(1, 181):
        now = turn * 2 * LOOK_SECONDS
        pulls = puller.plan(0, now)
        while pulls:
            pull = pulls.pop()
            if pull.lane == "normal":
                puller.settled(pull.number, "normal", "404", now)
                pulls += puller.plan(0, now)
            else:
                taken[pull.lane] += 1
                puller.delivered(pull.lane, 10_000 if pull.lane == "low" else 0, now)
                break
        for left in pulls:
            puller.settled(left.number, left.lane, "404", now)
    assert taken == {"high": 160, "low": 20}, "as their weights say"


def test_a_lane_that_says_nothing_does_not_keep_the_slot() -> None:
    puller = with_backlog("low", slots=1)
    assert lanes(puller.plan(0, LOOK_SECONDS)) == {"high": 1, "normal": 1}
    later = LOOK_SECONDS + BATCH_SECONDS
    assert lanes(puller.plan(0, later)) == {"low": 1}


def test_a_lane_with_a_backlog_gets_its_share_and_no_more() -> None:
    puller = PullScheduler(1, WEIGHTS)
    puller.plan(0, 0.0)
    for lane in WEIGHTS:
        puller.delivered(lane, 1000, 0.0)
    for turn in range(1, 14):
        (pull,) = puller.plan(0, turn * 2 * STALE_SECONDS)
        puller.delivered(pull.lane, 1000 - turn, turn * 2 * STALE_SECONDS)


def test_an_empty_answer_ends_the_backlog() -> None:
    puller = PullScheduler(4, WEIGHTS)
    puller.plan(0, 0.0)
    puller.delivered("high", 5, 0.0)
    (pull,) = puller.plan(1, 0.0)
    puller.settled(pull.number, "high", "404", 0.1)
    assert lanes(puller.plan(1, 0.1)) == {"high": 1}
    assert puller.outstanding == 3


def test_a_consumer_that_goes_is_tried_again_after_a_while() -> None:
    puller = PullScheduler(4, WEIGHTS)
    high = next(pull for pull in puller.plan(0, 0.0) if pull.lane == "high")
    puller.settled(high.number, "high", "409", 0.0)
    assert puller.plan(0, RETRY_SECONDS * 0.9) == []
    assert lanes(puller.plan(0, RETRY_SECONDS)) == {"high": 1}


def test_a_cut_link_loses_every_pull() -> None:
    puller = PullScheduler(4, WEIGHTS)
    high = next(pull for pull in puller.plan(0, 0.0) if pull.lane == "high")
    puller.settled(high.number, "high", "503", 0.0)
    assert puller.outstanding == 0
    assert puller.plan(0, RETRY_SECONDS * 0.9) == []
    assert lanes(puller.plan(0, RETRY_SECONDS)) == {"high": 1, "normal": 1, "low": 1}


def test_a_pull_that_is_never_settled_is_lost_and_the_next_ones_are_short() -> None:
    puller = PullScheduler(4, WEIGHTS)
    for pull in puller.plan(0, 0.0):
        puller.settled(pull.number, pull.lane, "408", 0.0)
    assert {pull.expires for pull in puller.plan(0, 0.0)} == {STANDING_SECONDS}
    assert puller.plan(0, STANDING_SECONDS + GRACE_SECONDS * 0.9) == []
    again = puller.plan(0, STANDING_SECONDS + GRACE_SECONDS)
    assert lanes(again) == {"high": 1, "normal": 1, "low": 1}
    assert all(pull.expires < STANDING_SECONDS for pull in again)


def test_a_new_connection_forgets_all() -> None:
    puller = PullScheduler(4, WEIGHTS)
    puller.plan(0, 0.0)
    puller.reset()
    assert lanes(puller.plan(0, 0.0)) == {"high": 1, "normal": 1, "low": 1}


@pytest.mark.parametrize("lane", ["", "other", "high.x"])
def test_what_comes_from_another_lane_does_no_harm(lane: str) -> None:
    puller = PullScheduler(4, WEIGHTS)
    puller.plan(0, 0.0)
    puller.delivered(lane, 3, 0.0)
    puller.settled(99, lane, "404", 0.0)
    assert puller.outstanding == 3


@dataclass
class Queue:
    """JetStream as far as pulls see it: it may lose any message, and serves pulls in order."""

    waiting: Counter[str] = field(default_factory=Counter)
    standing: list[tuple[Pull, float]] = field(default_factory=list)
    answers: list[tuple[str, str, int, int]] = field(default_factory=list)

    def pull(self, pull: Pull, now: float) -> None:
        if pull.expires:
            self.standing.append((pull, now + pull.expires))
            self._serve()
            return
        for _ in range(pull.batch):
            if not self.waiting[pull.lane]:
                self.answers.append(("404", pull.lane, pull.number, 0))
                return
            self._deliver(pull)

    def put(self, lane: str) -> None:
        self.waiting[lane] += 1
        self._serve()

    def tick(self, now: float) -> None:
        for entry in list(self.standing):
            pull, until = entry
            if until <= now:
                self.standing.remove(entry)
                self.answers.append(("408", pull.lane, pull.number, 0))

    def _serve(self) -> None:
        for entry in list(self.standing):
            if self.waiting[entry[0].lane]:
                self.standing.remove(entry)
                self._deliver(entry[0])

    def _deliver(self, pull: Pull) -> None:
        self.waiting[pull.lane] -= 1
        self.answers.append(("", pull.lane, pull.number, self.waiting[pull.lane]))


class Machine(RuleBasedStateMachine):
    """A worker in front of the queue; answers come in order, after any time, or not at all."""

    slots = 3

    def __init__(self) -> None:
        super().__init__()
        self.puller = PullScheduler(self.slots, WEIGHTS)
        self.queue = Queue()
        self.now = 0.0
        self.busy = 0
        self.done = 0
        self.put_in = 0
        self.lost_any = False
        self.late = 0.0
        """How long the queue's oldest answer has been under way."""
        self.plan()

    def plan(self) -> None:
        before = self.busy
        pulls = self.puller.plan(self.busy, self.now)
        assert not pulls or before < self.slots
        for pull in pulls:
            self.queue.pull(pull, self.now)

    @rule(lane=st.sampled_from(list(WEIGHTS)), count=st.integers(1, 6))
    def request(self, lane: str, count: int) -> None:
        for _ in range(count):
            self.queue.put(lane)
            self.put_in += 1

    @precondition(lambda self: self.queue.answers)
    @rule()
    def answer(self) -> None:
        status, lane, number, pending = self.queue.answers.pop(0)
        if not self.queue.answers:
            self.late = 0.0
        if status:
            self.puller.settled(number, lane, status, self.now)
        else:
            self.busy += 1
            self.puller.delivered(lane, pending, self.now)
        self.plan()

    @precondition(lambda self: self.queue.answers)
    @rule()
    def lose_an_answer(self) -> None:
        status, lane, *_ = self.queue.answers.pop(0)
        self.lost_any = True
        if not status:
            self.queue.put(lane)  # redelivered, for nobody acknowledged it

    @precondition(lambda self: self.busy)
    @rule()
    def finish(self) -> None:
        self.busy -= 1
        self.done += 1
        self.plan()

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.queue.answers:
            self.late += seconds
            # By then the puller may have counted a pull as lost whose answer still comes.
            self.lost_any |= self.late >= GRACE_SECONDS
        self.queue.tick(self.now)
        self.plan()

    @rule()
    def reconnect(self) -> None:
        self.queue.standing.clear()
        for status, lane, *_ in self.queue.answers:
            if not status:
                self.queue.put(lane)
        self.queue.answers.clear()
        self.puller.reset()
        self.plan()

    @invariant()
    def never_asks_for_too_much(self) -> None:
        assert self.puller.outstanding <= self.slots + EXTRA
        if not self.lost_any:
            assert self.busy + self.puller.outstanding <= self.slots + EXTRA

    def teardown(self) -> None:
        """Left alone, the worker takes every request: nothing is ever stuck."""
        for _ in range(2000):
            while self.queue.answers:
                self.answer()
            while self.busy:
                self.finish()
            if self.done == self.put_in:
                return
            self.now += 0.25
            self.queue.tick(self.now)
            self.plan()
        raise AssertionError(f"{self.done} of {self.put_in} after {self.now} s: {self.queue}")


TestMachine = Machine.TestCase


@given(st.tuples(*[st.integers(0, 40)] * len(WEIGHTS)), st.integers(1, 16))
def test_a_backlog_keeps_every_slot_busy(waiting: tuple[int, ...], slots: int) -> None:
    """With answers at once, no slot is idle while anything waits."""
    puller, queue = PullScheduler(slots, WEIGHTS), Queue()
    queue.waiting.update(dict(zip(WEIGHTS, waiting, strict=True)))
    busy = done = 0
    now = 0.0
    while done < sum(waiting):
        while pulls := puller.plan(busy, now):
            for pull in pulls:
                queue.pull(pull, now)
            for status, lane, number, pending in queue.answers:
                if status:
                    puller.settled(number, lane, status, now)
                else:
                    puller.delivered(lane, pending, now)
                    busy += 1
            queue.answers.clear()
        assert busy <= slots + EXTRA
        assert busy >= slots or not queue.waiting.total()
        busy, done, now = busy - 1, done + 1, now + 0.1
