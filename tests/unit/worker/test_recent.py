"""Ids are remembered for a time and up to a number."""

from headrace.worker.recent import Recent


def test_an_id_is_remembered_for_a_while() -> None:
    recent = Recent(10.0)
    recent.add("a", 0.0)
    recent.add("b", 5.0)
    recent.expire(9.9)
    assert "a" in recent
    recent.expire(10.0)
    assert "a" not in recent
    assert "b" in recent


def test_to_add_again_is_to_start_anew() -> None:
    recent = Recent(10.0)
    recent.add("a", 0.0)
    recent.add("b", 1.0)
    recent.add("a", 9.0)
    recent.expire(12.0)
    assert "a" in recent
    assert "b" not in recent


def test_the_oldest_goes_at_the_bound() -> None:
    recent = Recent(10.0, limit=2)
    for number, name in enumerate("abc"):
        recent.add(name, float(number))
    assert len(recent) == 2
    assert "a" not in recent
