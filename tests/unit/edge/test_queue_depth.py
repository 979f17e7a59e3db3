"""Where a request stands: never rising, from 1, and true whatever comes, goes and is deleted."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.edge.dispatch.queue_depth import position, rank

WEIGHTS = {"high": 8, "normal": 4, "low": 1}


def test_the_first_look_counts_what_came_before() -> None:
    assert rank(0, pending=5, delivered=0, ahead=0, behind=0) == 5
    assert rank(0, pending=5, delivered=0, ahead=0, behind=2) == 3


def test_deliveries_bring_it_forward_though_others_come() -> None:
    assert rank(5, pending=9, delivered=2, ahead=0, behind=0) == 3
    assert rank(3, pending=9, delivered=50, ahead=0, behind=0) == 1


def test_deletions_bring_it_forward_too() -> None:
    assert rank(5, pending=2, delivered=0, ahead=0, behind=0) == 2


def test_what_is_given_out_twice_was_not_ahead() -> None:
    assert rank(5, pending=5, delivered=3, ahead=4, behind=0) == 5


def test_a_queue_that_was_made_anew_counts_from_the_start() -> None:
    assert rank(5, pending=5, delivered=-100, ahead=0, behind=0) == 5


def test_other_lanes_count_by_their_weight() -> None:
    pending = {"high": 100, "normal": 10, "low": 100}
    assert position(4, "normal", pending, WEIGHTS) == 4 + 8 + 1
    assert position(4, "high", pending, WEIGHTS) == 4 + 2 + 0
    assert position(2, "low", pending, WEIGHTS) == 2 + 16 + 8
    assert position(1, "high", {"high": 1, "normal": 0, "low": 0}, WEIGHTS) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(-5, 50), st.integers(0, 50), st.integers(0, 50)),
        min_size=1,
    )
)
def test_it_never_rises_and_never_falls_below_one(looks: list[tuple[int, int, int, int]]) -> None:
    place = 0
    for pending, delivered, ahead, behind in looks:
        now = rank(place, pending=pending, delivered=delivered, ahead=ahead, behind=behind)
        assert now >= 1
        assert not place or now <= place
        place = now


@given(st.data())
def test_it_is_exact_where_all_requests_are_ours(data: st.DataObject) -> None:
    """A queue of one lane, simulated: arrivals, deliveries from the front, deletions anywhere."""
    queue: list[int] = []
    ranks: dict[int, int] = {}
    number = 0
    for _ in range(data.draw(st.integers(1, 12))):
        for _ in range(data.draw(st.integers(0, 4))):
            number += 1
            queue.append(number)
        delivered = data.draw(st.integers(0, min(3, len(queue))))
        del queue[:delivered]
        deleted = data.draw(st.integers(0, 2 * len(queue)))
        if deleted < len(queue):
            del queue[deleted]
        for ahead, each in enumerate(queue):
            ranks[each] = rank(
                ranks.get(each, 0),
                pending=len(queue),
                delivered=delivered,
                ahead=ahead,
                behind=len(queue) - ahead - 1,
            )
        assert [ranks[each] for each in queue] == list(range(1, len(queue) + 1))
