"""The bench's decisions: plain values in, plain values out."""

import pytest

from loadtests.bench.machine import Machine
from loadtests.bench.meter import Row, Usage, grouped, parse, spent
from loadtests.bench.slow_reader import Size, result
from loadtests.load.samples import Sample, summary

ON = Machine(cpus=2, processor="", python="", load_average=0.0, commit="")


def test_a_process_name_may_hold_anything() -> None:
    zeros = " ".join(["0"] * 20)
    stat = f"12 (a) (b 3) S 7 {zeros.replace('0 0 0 0', '0 0 0 0', 1)} 0"
    fields = stat.rpartition(")")[2].split()
    fields[11:15] = ["5", "6", "7", "8"]
    fields[21] = "9"
    assert parse("12 (a) (b 3) " + " ".join(fields)) == Row(12, 7, 26, 9)


@pytest.mark.parametrize("text", ["", "1 (x)", "no process"])
def test_what_is_no_process_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse(text)


def test_what_is_below_another_root_counts_there_alone() -> None:
    rows = [Row(1, 0, 100, 1), Row(2, 1, 100, 2), Row(3, 2, 200, 4), Row(4, 2, 300, 8)]
    groups = grouped(rows, {"worker": 2, "engine": 4, "gone": 9})
    assert groups["worker"].processes == 2
    assert groups["engine"].cpu_seconds == pytest.approx(groups["worker"].cpu_seconds)
    assert groups["engine"].rss_bytes > groups["worker"].rss_bytes
    assert groups["gone"] == Usage(0.0, 0, 0)


def test_what_was_spent_is_a_difference() -> None:
    before, after = {"a": Usage(1.0, 5, 1)}, {"a": Usage(1.5, 9, 1), "new": Usage(3.0, 1, 1)}
    assert spent(before, after) == {"a": 0.5}


def sample(gap: float) -> Sample:
    return Sample("ok", 0.0, 0.1, 1.0, 0.0, [gap] * 3)


def test_a_slow_reader_is_judged_by_the_worse_kind() -> None:
    made = {
        kind: [summary([sample(gap)], 0.0) for gap in gaps]
        for kind, gaps in (
            ("alone", (0.02, 0.02, 0.09)),
            ("same worker", (0.022, 0.022, 0.02)),
            ("full speed", (0.02, 0.024, 0.024)),
        )
    }
    found = result(ON, Size(rounds=3), made)
    assert found.ratio == pytest.approx(1.2)
    assert found.kinds["alone"].outcomes == {"ok": 3}
