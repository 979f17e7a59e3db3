"""When a pipe is cut: decided on plain values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.bridge.watchdog import (
    REPEAT_SECONDS,
    LinkActivity,
    LinkState,
    SilenceLimits,
    judge,
    listen,
    patience,
)

LIMITS = SilenceLimits(silence=12.0, greeting=5.0)
TIMES = st.floats(0, 1e6)


def verdict(hearing: LinkActivity, now: float, last_cut: float | None = None) -> LinkState:
    return judge(hearing, now=now, last_cut=last_cut, limits=LIMITS)


@pytest.mark.parametrize(
    ("hearing", "now", "expected"),
    [
        (LinkActivity(100.0, 1), 100.0, LinkState.KEEP),
        (LinkActivity(100.0, 1), 112.0, LinkState.KEEP),
        (LinkActivity(100.0, 1), 112.5, LinkState.CUT_SESSION),
        # One that never said a word gets less time.
        (LinkActivity(100.0), 105.0, LinkState.KEEP),
        (LinkActivity(100.0), 105.5, LinkState.CUT_SESSION),
    ],
)
def test_silence(hearing: LinkActivity, now: float, expected: LinkState) -> None:
    assert verdict(hearing, now) is expected


def test_a_second_silence_condemns_the_connection() -> None:
    silent = LinkActivity(100.0, 1)
    assert verdict(silent, 120.0, last_cut=100.0) is LinkState.CUT_CONNECTION
    assert verdict(silent, 120.0, last_cut=120.0 - REPEAT_SECONDS - 1) is LinkState.CUT_SESSION


def test_bytes_are_a_sign_of_life() -> None:
    before = LinkActivity(100.0, 10)
    assert listen(before, now=110.0, received=11, deaf=False) == LinkActivity(110.0, 11)
    assert listen(before, now=110.0, received=10, deaf=False) == before


def test_silence_does_not_count_while_nobody_listens() -> None:
    assert listen(LinkActivity(100.0, 10), now=110.0, received=10, deaf=True) == LinkActivity(
        110.0, 10
    )


@given(st.lists(st.tuples(st.floats(0.1, 4.9), st.booleans()), max_size=50))
def test_a_pipe_is_kept_if_it_speaks_or_is_not_listened_to(steps: list[tuple[float, bool]]) -> None:
    now, received, hearing = 0.0, 0, LinkActivity(0.0)
    for wait, deaf in steps:
        now += wait
        received += not deaf
        hearing = listen(hearing, now=now, received=received, deaf=deaf)
        assert verdict(hearing, now) is LinkState.KEEP


@given(st.floats(0, 1e5), st.integers(0, 5), st.none() | TIMES, st.floats(0.001, 1e5))
def test_a_silent_pipe_is_cut_sooner_or_later(
    since: float, received: int, last_cut: float | None, over: float
) -> None:
    hearing = LinkActivity(since, received)
    now = since + 12.0 + over
    assert listen(hearing, now=now, received=received, deaf=False) == hearing
    assert verdict(hearing, now, last_cut) is not LinkState.KEEP


def test_who_is_too_slow_to_start_is_given_more_time_within_bounds() -> None:
    assert [patience(failures) for failures in (0, 1, 2, 3, 50)] == [1, 2, 4, 6, 6]
