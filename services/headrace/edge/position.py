"""Where a request stands in its model's queue. Functions of plain values.

A model's queue has lanes, and a worker takes from them by weight. In its own lane a request's
*rank* is exact but for one thing: messages of other edges that came between its publish and the
first look. Of another lane, by the time the request is taken, a share has been taken that
corresponds to the lanes' weights: with weights 8, 4 and 1, the fourth in the normal lane has up to
eight of the high lane and one of the low lane before it. What comes into a heavier lane later may
still overtake it; the position that a client has been told never rises, though.
"""

from collections.abc import Mapping


def rank(before: int, *, pending: int, delivered: int, ahead: int, behind: int) -> int:
    """The place in its lane of a request that waits, from 1; it never rises.

    `before` is its rank at the last look, 0 at the first. `pending` is what the lane holds,
    `delivered` what it has given out since that look. Of this edge's own requests in the lane
    `ahead` are older and `behind` are younger, and wait too.

    Requests ahead that are deleted show in `pending`, or in `ahead` if they are our own. What is
    given out a second time counts in `delivered` although it was not ahead: `ahead` mends that.
    """
    most = pending - behind
    if before:
        most = min(most, before - max(delivered, 0))
    place = max(most, ahead + 1, 1)
    return min(place, before) if before else place


def position(place: int, lane: str, pending: Mapping[str, int], weights: Mapping[str, int]) -> int:
    """How many requests of all lanes are taken up to and with the one at rank `place` of `lane`."""
    others = (
        min(waiting, place * weights[other] // weights[lane])
        for other, waiting in pending.items()
        if other != lane
    )
    return place + sum(others)
