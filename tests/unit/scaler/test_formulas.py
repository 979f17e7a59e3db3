"""The formulae behind the policy, held against exact ones and to their limits."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.scaler.policy.counterfactual import Counterfactual
from headrace.scaler.policy.forecast import BINS_PER_DAY, Forecast, place_after
from headrace.scaler.policy.samples import KEPT, Samples, left_over
from headrace.scaler.policy.scale_down import IdleGaps
from headrace.scaler.policy.staffing import catch_up, waiting, workers


def erlang_c_queue(servers: int, load: float) -> float:
    """Mean number waiting in M/M/n, exactly."""
    blocking = 1.0
    for count in range(1, servers + 1):
        blocking = load * blocking / (count + load * blocking)
    delayed = blocking / (1 - load / servers * (1 - blocking))
    return delayed * load / (servers - load)


@pytest.mark.parametrize("servers", [8, 16, 64])
@pytest.mark.parametrize("use", [0.6, 0.8, 0.95])
def test_the_queue_is_nearly_erlangs(servers: int, use: float) -> None:
    exact = erlang_c_queue(servers, use * servers)
    assert waiting(servers, use * servers, 1.0) == pytest.approx(exact, rel=0.35, abs=0.2)


def test_a_margin_grows_with_the_square_root_of_the_load() -> None:
    """With one slot a worker: ten times the load, about three times the margin."""
    margins = []
    for load in (10.0, 100.0):
        count = workers((load,), slots=1, most=200, peakedness=1.0, patience=1.0, turnovers=10.0)
        margins.append(count - load)
    assert 2.0 < margins[1] / margins[0] < 5.0


@given(st.floats(0.1, 60), st.floats(0.01, 100), st.floats(1, 50), st.integers(1, 12))
@settings(deadline=None)
def test_more_patience_never_asks_for_more(
    load: float, patience: float, peakedness: float, most: int
) -> None:
    counts = [
        workers((load,), slots=4, most=most, peakedness=peakedness, patience=each, turnovers=20.0)
        for each in (patience, 2 * patience)
    ]
    assert 1 <= counts[1] <= counts[0] <= most


def test_who_would_be_ready_too_late_is_not_started() -> None:
    def best(more_in: float) -> int:
        return catch_up(100, rate=0.0, per_worker=1.0, ready_in=[0.0], more_in=more_in,
                        load=10.0, most=5, patience=1.0)  # fmt: skip

    assert [best(more_in) for more_in in (10, 99, 101)] == [5, 1, 1]


@given(st.floats(20, 5000))
@settings(deadline=None)
def test_one_who_knows_nothing_pays_at_most_double(restart: float) -> None:
    kept = IdleGaps().keep(restart)
    for gap in (0.1 * restart, 0.99 * restart, 1.01 * restart, 50 * restart):
        paid = gap if gap <= kept else kept + restart
        assert paid <= 2 * min(gap, restart) + 1e-6


@given(st.lists(st.floats(10, 50_000), min_size=8, max_size=40), st.floats(30, 5000))
@settings(deadline=None)
def test_known_gaps_cost_nearly_as_little_as_the_best_time_for_them(
    gaps: list[float], restart: float
) -> None:
    known = IdleGaps()
    for gap in gaps:
        known.add(gap)

    def paid(kept: float) -> float:
        # Younger gaps weigh more, and count as the end of their bin.
        total = 0.0
        for place, weight in enumerate(known.weights):
            gap = 10 * 1.4**place
            total += weight * (gap if gap <= kept * (1 + 1e-9) else kept + restart)
        return total

    best = min(paid(10 * 1.4**place) for place in range(25) if 10 * 1.4**place <= 2 * restart)
    assert paid(known.keep(restart)) <= min(best, paid(0.0)) * (1 + 1e-6)


def test_samples_forget() -> None:
    samples = Samples()
    for value in range(3 * KEPT):
        samples.add(float(-value))
    assert len(samples) == KEPT
    assert samples.ordered == sorted(samples.values)
    assert samples.quantile(1.0, 0.0) == -2 * KEPT


@given(st.lists(st.floats(0, 1e4), max_size=KEPT), st.floats(0, 1e5))
def test_what_is_left_is_never_nothing(values: list[float], elapsed: float) -> None:
    rest = left_over(values, elapsed)
    assert rest
    assert rest == sorted(rest)
    assert rest[0] >= 0


def watched(seconds: int, rate: float, burst: int = 1, seed: int = 1) -> Forecast:
    """A forecast that has watched bursts come at random."""
    source, forecast = random.Random(seed), Forecast()
    for second in range(0, seconds, 5):
        count = sum(burst for _ in range(50) if source.random() < rate * 5 / 50 / burst)
        forecast.observe(count, float(second + 1), second / 1800 % BINS_PER_DAY, 120.0)
    return forecast


def test_rate_and_bursts_are_seen() -> None:
    calm, bursty = watched(14_400, 1.0), watched(14_400, 1.0, burst=20)
    assert calm.rate == pytest.approx(1.0, rel=0.25)
    assert calm.dispersion == pytest.approx(1.0, abs=0.3)
    assert bursty.dispersion == pytest.approx(20, rel=0.35)
    assert bursty.smoothing(60.0) > calm.smoothing(60.0), "bursts are no rate"


def test_the_day_before_tells_the_morning() -> None:
    forecast = Forecast()
    for second in range(0, 3 * 86_400, 30):
        place = second / 1800 % BINS_PER_DAY
        forecast.observe(30 if place > 16.05 else 0, float(second + 1), place, 1800.0)
        if second > 2 * 86_400 and place == 15.5:
            break
    here = 15.5
    assert forecast.rate == pytest.approx(0.0, abs=0.01)
    assert forecast.ahead(here, 3600.0, place_after(here, 3600.0)) > 0.5


def test_the_replay_learns_what_the_formula_misses() -> None:
    """Bursts that overwhelm two workers, but not three."""
    replay = Counterfactual()
    for step in range(4000):
        burst = 60 if step % 60 == 0 else 0
        replay.observe(burst, 1.0, slots=8, most=16, service=1.0, load=1.0, peakedness=1.0)
    corrections = replay.corrections(16)
    longer = [each.longer for each in corrections]
    # Two workers serve 16 a second. What they have left of a burst after one waits half as long,
    # on average, as it takes to serve it.
    assert longer[1] == pytest.approx((60 - 16) / 16 / 2, rel=0.05)
    assert longer == sorted(longer, reverse=True)
    assert longer[-1] == 0.0
    assert all(each.factor > 0 for each in corrections)
