"""Some histories of the protocol in virtual time, and builds that are broken on purpose.

`make model` plays a hundred thousand.
"""

import pytest

from tests.model.broken import broken
from tests.model.many import portion
from tests.model.world import run

SEEDS = 600
PORTIONS = 6
"""Together they take some ten seconds, on as many processors as the tests have."""


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS // PORTIONS))
def test_no_history_breaks_an_invariant(first: int) -> None:
    tally = portion(first, SEEDS // PORTIONS)
    assert tally.failures == []
    assert tally.outcomes["ok"] > SEEDS // PORTIONS


def test_the_same_seed_is_the_same_history() -> None:
    one, other = run(7, kept=True), run(7, kept=True)
    assert one.history.lines == other.history.lines
    assert one.steps == run(7).steps


@pytest.mark.parametrize(
    ("how", "sign"), [("ack-first", "left the queue while it was in work"), ("no-seq", "was sent")]
)
def test_a_broken_build_is_caught(how: str, sign: str) -> None:
    tally = portion(0, 100, how)
    assert any(sign in failure for _, failure in tally.failures)


def test_a_failing_history_is_told_in_lines() -> None:
    with broken("ack-first"):
        told = run(0, kept=True)
    assert told.failure
    assert any("Accepted" in line for line in told.history.lines)


def test_a_message_that_was_taken_twice_gives_its_numbers_once() -> None:
    """The queue's answer is late, the hub restarts, and the same message is published again."""
    assert not run(30936).failure
