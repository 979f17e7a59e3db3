"""How long a request waits: intervals from its position and from what is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol.plan import Interval
from headrace.protocol.waiting import AT_ONCE, Supply, either, passed, sooner, text, wait

EACH = Interval(2.0, 8.0)
SOON = Interval(40.0, 90.0)

seconds = st.floats(0, 1e6)
intervals = st.builds(lambda one, more: Interval(one, one + more), seconds, seconds)
supplies = st.builds(
    Supply,
    slots=st.integers(0, 500),
    free=st.integers(0, 500),
    coming=st.integers(0, 50),
    worker_slots=st.integers(0, 500),
    ready_in=st.none() | intervals,
    each=st.none() | intervals,
)


def test_nothing_is_known_of_nothing() -> None:
    assert wait(1, Supply()) is None
    assert text(None) == "unknown"


def test_a_free_slot_is_at_once() -> None:
    assert wait(2, Supply(slots=8, free=2)) == AT_ONCE
    assert wait(3, Supply(slots=8, free=2)) is None


def test_busy_slots_end_one_after_the_other() -> None:
    assert wait(1, Supply(slots=4, each=EACH)) == Interval(0.0, 2.0)
    assert wait(9, Supply(slots=4, each=EACH)) == Interval(4.0, 18.0)
    assert wait(9, Supply(slots=4, free=1, each=EACH)) == Interval(3.5, 16.0)


def test_a_cold_model_is_waited_for_first() -> None:
    assert wait(1, Supply(ready_in=SOON, each=EACH)) == SOON
    assert wait(7, Supply(ready_in=SOON, worker_slots=8)) == SOON
    assert wait(17, Supply(ready_in=SOON, worker_slots=8, coming=1)) is None
    one = wait(17, Supply(ready_in=SOON, worker_slots=8, coming=1, each=EACH))
    two = wait(17, Supply(ready_in=SOON, worker_slots=8, coming=2, each=EACH))
    assert (one, two) == (Interval(44.0, 106.0), Interval(42.0, 106.0))


def test_what_was_told_grows_old() -> None:
    assert passed(SOON, 10) == Interval(30.0, 80.0)
    assert passed(SOON, 60) == Interval(0.0, 30.0)
    assert passed(SOON, 92) == Interval(0.0, 5.0)
    assert passed(SOON, 120) == Interval(0.0, 30.0)


def test_several_clusters() -> None:
    assert sooner(None, SOON) == SOON
    assert sooner(Interval(10, 200), SOON) == Interval(10, 90)
    assert either(Interval(10, 20), SOON) == Interval(10, 90)
    assert either(None, None) is None


@pytest.mark.parametrize(
    ("interval", "told"),
    [(Interval(40.4, 89.2), "40-90s"), (AT_ONCE, "0-1s"), (Interval(0, math.inf), "unknown")],
)
def test_the_text_is_stable(interval: Interval, told: str) -> None:
    assert text(interval) == told


@given(st.integers(1, 10_000), supplies)
def test_who_is_further_back_never_waits_less(place: int, supply: Supply) -> None:
    first, second = wait(place, supply), wait(place + 1, supply)
    for each in (first, second):
        assert each is None or 0 <= each.low <= each.high
    if first is not None and second is not None:
        assert first.low <= second.low
        assert first.high <= second.high


@given(intervals, seconds)
def test_what_is_left_is_an_interval(interval: Interval, gone: float) -> None:
    left = passed(interval, gone)
    assert 0 <= left.low <= left.high
