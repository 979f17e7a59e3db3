"""What operators say by hand, kept in one file that several may change at once."""

import threading
import time
from pathlib import Path

import pytest

from headrace.catalogue import overrides
from headrace.catalogue.overrides import Override


def test_a_word_is_kept_changed_and_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "overrides.json"
    assert overrides.load(file).models == {}
    overrides.change(file, "m", lambda _: Override(max=3))
    overrides.change(file, "m", lambda before: Override(min=1, max=before.max if before else None))
    overrides.change(file, "n", lambda _: Override(max=0))
    assert overrides.load(file).models == {"m": Override(min=1, max=3), "n": Override(max=0)}
    assert overrides.change(file, "m", lambda _: None) is None
    assert overrides.load(file).models == {"n": Override(max=0)}


def test_of_two_operators_at_once_both_are_heard(tmp_path: Path) -> None:
    file = tmp_path / "overrides.json"

    def more(before: Override | None) -> Override:
        time.sleep(0.001)  # time enough for another one to read what this one replaces
        return Override(max=((before.max or 0) if before else 0) + 1)

    def operator() -> None:
        for _ in range(10):
            overrides.change(file, "m", more)

    operators = [threading.Thread(target=operator) for _ in range(4)]
    for each in operators:
        each.start()
    for each in operators:
        each.join()
    assert overrides.load(file).models == {"m": Override(max=40)}


def test_a_change_that_fails_changes_nothing_and_leaves_no_lock(tmp_path: Path) -> None:
    file = tmp_path / "overrides.json"
    overrides.change(file, "m", lambda _: Override(max=3))

    def fails(_: Override | None) -> Override:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        overrides.change(file, "m", fails)
    assert overrides.load(file).models == {"m": Override(max=3)}
    overrides.change(file, "m", lambda _: None)
    file.write_text("{")
    with pytest.raises(ValueError, match=r"overrides\.json"):
        overrides.change(file, "m", lambda _: None)
    assert file.read_text() == "{"
