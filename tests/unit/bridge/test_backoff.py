"""How long to wait before the next attempt."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.bridge.backoff import FAULT_CAP_SECONDS, REFUSAL_CAP_SECONDS, wait

FAILURES = st.integers(0, 10**9)
CHANCE = st.floats(0, 1)


def test_the_first_attempt_after_a_fault_comes_at_once() -> None:
    assert wait(0, refused=False, chance=0) <= 0.1


@given(FAILURES, st.booleans(), CHANCE)
def test_it_is_capped(failures: int, refused: bool, chance: float) -> None:
    cap = REFUSAL_CAP_SECONDS if refused else FAULT_CAP_SECONDS
    assert 0 < wait(failures, refused=refused, chance=chance) <= cap


@given(FAILURES, st.booleans(), CHANCE)
def test_it_grows(failures: int, refused: bool, chance: float) -> None:
    now = wait(failures, refused=refused, chance=chance)
    assert now <= wait(failures + 1, refused=refused, chance=chance)


@given(st.integers(5, 10**9), CHANCE)
def test_a_dead_host_is_tried_often_enough_to_be_back_within_10_seconds(
    failures: int, chance: float
) -> None:
    assert wait(failures, refused=False, chance=chance) <= 2


@given(st.integers(7, 10**9))
def test_openssh_does_not_lock_out_a_refused_key(failures: int) -> None:
    # Its penalty is 5 s for each refusal; it must have expired before the next.
    assert wait(failures, refused=True, chance=1) >= 5
