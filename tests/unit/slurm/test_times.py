"""Durations and points in time, as Slurm writes them and as it must not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm import times
from headrace.slurm.times import DAY, HOUR, MAX_SECONDS, MINUTE, UNLIMITED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30 * MINUTE),
        ("30:15", 30 * MINUTE + 15),
        ("90:00", 90 * MINUTE),
        ("2:00:00", 2 * HOUR),
        ("1-12", DAY + 12 * HOUR),
        ("1-12:30", DAY + 12 * HOUR + 30 * MINUTE),
        ("1-12:00:00", DAY + 12 * HOUR),
        ("2-00:00:01", 2 * DAY + 1),
        ("100:00:00", 100 * HOUR),
    ],
)
def test_every_form_of_a_walltime(text: str, seconds: int) -> None:
    assert times.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "1-", "1-24", "1:60", "1:00:60", "1:60:00", "1-1:60", "1:2:3:4", "2h", "1-2-3"),
        *(" 1", "1 ", "1\n", "\u0661", "1e3", "1.5", "9" * 40, "0x10", "1-\u0661", "UNLIMITED"),
    ],
)
def test_nothing_else_is_a_walltime(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        times.parse_duration(text)


def test_a_walltime_is_written_as_slurm_writes_it() -> None:
    assert times.format_duration(DAY + 12 * HOUR) == "1-12:00:00"
    assert times.format_duration(90) == "00:01:30"
    assert times.format_duration(59.2) == "00:01:00"
    with pytest.raises(ValueError, match="duration"):
        times.format_duration(MAX_SECONDS + 1)
    with pytest.raises(ValueError, match="duration"):
        times.format_duration(-1)


@given(st.integers(0, MAX_SECONDS))
def test_what_is_written_is_read(seconds: int) -> None:
    text = times.format_duration(seconds)
    assert times.parse_duration(text) == seconds
    assert times.parse_clock(text) == seconds


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert times.parse_duration(text) >= 0
    except ValueError:
        return
    assert text.isascii()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2:00", 120),
        ("4:00:00", 4 * HOUR),
        ("1-00:00:00", DAY),
        ("UNLIMITED", UNLIMITED),
        ("infinite", UNLIMITED),
        ("NOT_SET", None),
        ("Partition_Limit", None),
        ("60", None),
        ("", None),
    ],
)
def test_time_limits_as_they_are_shown(text: str, seconds: float | None) -> None:
    assert times.limit(text) == seconds


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("1795336610", 1795336610.0),
        ("2026-11-22T08:36:50", 1795336610.0),
        (" 1795336610 ", 1795336610.0),
        ("N/A", None),
        ("Unknown", None),
        ("0", None),
        ("4294967295000", None),
        ("9" * 5000, None),
        ("2026-13-22T08:36:50", None),
        ("Tomorr 08:36", None),
        ("", None),
    ],
)
def test_points_in_time(text: str, when: float | None) -> None:
    assert times.when(text) == when


@given(st.text(max_size=30))
def test_any_text_is_a_point_in_time_or_none(text: str) -> None:
    found = times.when(text)
    assert found is None or times.FIRST_TIME <= found <= times.LAST_TIME
