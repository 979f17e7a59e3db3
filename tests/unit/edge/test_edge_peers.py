"""Which edges have died: those not heard any more, and those of whom only requests are left."""

from headrace.edge.dispatch.edge_peers import (
    OWN_SECONDS,
    PURGE_SECONDS,
    REMEMBERED,
    SILENT_SECONDS,
    PeerTable,
)

LATE = SILENT_SECONDS + 0.1


class Listener:
    """Peers of an edge that hears itself all the time."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.peers = PeerTable("me", now)

    def until(self, now: float) -> PeerTable:
        while self.now < now:
            self.now = min(now, self.now + 1.0)
            self.peers.hear("me", self.now)
        return self.peers


def test_one_that_falls_silent_is_dead_for_a_while() -> None:
    edge = Listener()
    edge.until(10.0).hear("a", 10.0)
    edge.peers.hear("b", 10.0)
    edge.until(13.0).hear("b", 13.0)
    assert edge.until(10.0 + LATE).dead(10.0 + LATE) == ["a"]
    edge.until(16.0).hear("b", 16.0)
    assert edge.peers.dead(16.0) == ["a"]
    edge.until(19.0).hear("b", 19.0)
    end = 10.0 + LATE + PURGE_SECONDS
    assert edge.until(end).dead(end) == []


def test_one_that_is_heard_again_is_not_and_is_told_so_once() -> None:
    edge = Listener()
    edge.until(10.0).hear("a", 10.0)
    assert edge.until(10.0 + LATE).dead(10.0 + LATE) == ["a"]
    assert edge.peers.returned() == []
    edge.until(14.0).hear("a", 14.0)
    assert edge.peers.dead(14.1) == []
    assert edge.peers.returned() == ["a"]
    edge.until(15.0).hear("a", 15.0)
    assert edge.peers.returned() == []


def test_one_that_comes_back_late_is_told_so_too() -> None:
    edge = Listener()
    edge.until(10.0).hear("a", 10.0)
    edge.until(20.0).dead(20.0)
    edge.until(500.0).hear("a", 500.0)
    assert edge.peers.returned() == ["a"]


def test_nobody_is_dead_before_we_have_listened() -> None:
    edge = Listener(100.0)
    edge.until(101.0).queued(["old", "me"], 101.0)
    assert edge.peers.dead(101.0) == []
    edge.until(100.0 + LATE).queued(["old", "me"], 100.0 + LATE)
    assert edge.peers.dead(100.0 + LATE) == ["old"]


def test_our_own_break_is_not_the_others_death() -> None:
    """Whether the link was cut or we stood still, and whatever is looked at first then."""
    edge = Listener()
    edge.until(10.0).hear("a", 10.0)
    late = 10.0 + 2 * LATE
    edge.peers.queued(["b"], late)
    assert edge.peers.dead(late) == []
    edge.peers.hear("me", late)
    edge.peers.queued(["b"], late)
    assert edge.peers.dead(late) == []
    assert edge.until(late + OWN_SECONDS).dead(late + OWN_SECONDS) == []
    assert edge.until(late + LATE).dead(late + LATE) == ["a"]


def test_we_are_never_our_own_peer() -> None:
    assert Listener().until(100.0).dead(100.0) == []


def test_the_dead_are_not_remembered_without_bound() -> None:
    edge = Listener()
    edge.until(10.0)
    for number in range(2 * REMEMBERED):
        edge.peers.queued([f"{number}"], 10.0)
    assert len(edge.peers.dead(10.0)) == REMEMBERED
