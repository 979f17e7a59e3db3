"""Which edges have died: those not heard any more, and those of whom only requests are left."""

from headrace.edge.peers import PURGE_SECONDS, SILENT_SECONDS, Peers

LATE = SILENT_SECONDS + 0.1


def test_one_that_falls_silent_is_dead_for_a_while() -> None:
    peers = Peers("me", 0.0)
    peers.hear("a", 10.0)
    peers.hear("b", 10.0)
    peers.hear("b", 13.0)
    assert peers.dead(10.0 + LATE) == ["a"]
    peers.hear("b", 16.0)
    assert peers.dead(16.0) == ["a"]
    peers.hear("b", 19.0)
    assert peers.dead(10.0 + LATE + PURGE_SECONDS) == []


def test_one_that_is_heard_again_is_not() -> None:
    peers = Peers("me", 0.0)
    peers.hear("a", 10.0)
    assert peers.dead(10.0 + LATE) == ["a"]
    peers.hear("a", 14.0)
    assert peers.dead(14.1) == []


def test_nobody_is_dead_before_we_have_listened() -> None:
    peers = Peers("me", 100.0)
    peers.queued(["old", "me"], 101.0)
    assert peers.dead(101.0) == []
    peers.queued(["old", "me"], 100.0 + LATE)
    assert peers.dead(100.0 + LATE) == ["old"]


def test_our_own_break_is_not_the_others_death() -> None:
    peers = Peers("me", 0.0)
    peers.hear("a", 10.0)
    peers.listen_anew(60.0)
    assert peers.dead(61.0) == []
    assert peers.dead(60.0 + LATE) == ["a"]


def test_we_are_never_our_own_peer() -> None:
    peers = Peers("me", 0.0)
    peers.hear("me", 1.0)
    assert peers.dead(100.0) == []
