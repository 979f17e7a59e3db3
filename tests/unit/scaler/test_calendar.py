"""Windows of the week."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from headrace.catalogue.schedule import ScheduleWindow, parse
from headrace.scaler.policy.calendar import local, minimum, place_in
from headrace.scaler.policy.decide import observe
from headrace.scaler.policy.learned import Learned
from headrace.scaler.spec import Scaling
from tests.unit.scaler.observed import seen

BERLIN = ZoneInfo("Europe/Berlin")


def at(day: int, clock: str) -> datetime:
    """A moment of the week that begins on Monday, 2 November 2026."""
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, 11, 2 + day, hour, minute, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("when", "day", "clock", "holds"),
    [
        ("mon-fri 08:00-18:00", 0, "08:00", True),
        ("mon-fri 08:00-18:00", 4, "17:59", True),
        ("mon-fri 08:00-18:00", 4, "18:00", False),
        ("mon-fri 08:00-18:00", 5, "12:00", False),
        ("fri-mon 08:00-18:00", 6, "12:00", True),
        ("fri-mon 08:00-18:00", 2, "12:00", False),
        ("sat,sun 10:00-24:00", 6, "23:59", True),
        ("daily 22:00-02:00", 3, "01:59", True),
        ("daily 22:00-02:00", 3, "02:00", False),
        ("fri 22:00-02:00", 5, "01:00", True),
        ("fri 22:00-02:00", 4, "01:00", False),
    ],
)
def test_windows(when: str, day: int, clock: str, holds: bool) -> None:
    assert minimum([ScheduleWindow(when=when, min=2)], at(day, clock)) == (2 if holds else 0)


@pytest.mark.parametrize(
    "when",
    ["", "mon", "mon 8:00-9:00", "mon 08:00-08:00", "mon 24:00-08:00", "mon 08:00-24:30",
     "mon 08:00-29:00", "funday 08:00-18:00", "mon-fri 08:00-18:00; reboot"],
)  # fmt: skip
def test_what_is_no_window_is_refused(when: str) -> None:
    with pytest.raises(ValueError, match=r"not like|no time|no such"):
        parse(when)


def test_workers_are_there_when_the_window_opens() -> None:
    spec = Scaling(
        max=4,
        schedule=(ScheduleWindow(when="mon-fri 08:00-18:00", min=2),),
        timezone="Europe/Berlin",
        load_seconds=600.0,
    )
    desired = [
        observe(seen(now=moment.timestamp()), spec, Learned(), moment.timestamp()).desired
        for moment in (at(1, "07:49"), at(1, "07:51"), at(1, "17:59"), at(1, "18:01"))
    ]
    assert desired == [0, 2, 2, 0]


def test_places_in_the_week() -> None:
    assert place_in(at(0, "00:15")) == 0.5
    assert place_in(at(5, "12:00")) == 72.0
    assert local(0.0, "Europe/Berlin").hour == 1
