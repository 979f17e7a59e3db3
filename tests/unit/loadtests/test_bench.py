"""The bench's decisions: plain values in, plain values out."""

import math
from pathlib import Path

import msgspec
import pytest

from loadtests.bench import alone, canned, hops, report, rows, stub_worker, tables
from loadtests.bench.aims import Aim, aims, number
from loadtests.bench.contenders import DIRECT, HEADRACE, LITELLM, SSH
from loadtests.bench.growth import Growth
from loadtests.bench.machine import Machine, keep
from loadtests.bench.meter import Row, Usage, grouped, parse, spent
from loadtests.bench.metered import Cost, Metered
from loadtests.bench.points import Point
from loadtests.bench.results import Done, Results, Run, read
from loadtests.bench.rows import Level, SideBySide
from loadtests.bench.slow_reader import Size, result
from loadtests.load import answers
from loadtests.load.samples import Sample, Spread, spread, summary

ON = Machine(cpus=2, processor="", python="", load_average=0.0, commit="")


def test_a_process_name_may_hold_anything() -> None:
    fields = ["S", "7", *["0"] * 20]
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


def metered(rate: float, first: float, cpu: float) -> Metered:
    """A run of two requests of two tokens."""
    seconds = 2 / rate
    samples = [Sample("ok", 0.0, first, seconds, 0.0, [0.02]) for _ in range(2)]
    return Metered(summary(samples, 0.001), {"edge": Cost(cpu, 2**20)})


def test_a_row_is_the_median_of_its_rounds() -> None:
    row = rows.row("x", [metered(10, 0.1, 0.1), metered(20, 0.3, 0.2), metered(90, 0.2, 0.3)])
    assert row.requests_per_second == pytest.approx(20)
    assert row.first_token_p50 == pytest.approx(200)
    assert (row.requests, row.outcomes) == (6, {"ok": 6})
    assert row.cpu_ms == pytest.approx({"edge": 100.0, "generator": 0.5})
    assert row.rss_mib == {"edge": 1.0}


def level(streams: int, delay_ms: float, rates: dict[str, float]) -> Level:
    """A level at which first tokens take the inverse of the rate."""
    made = [rows.row(name, [metered(rate, 1 / rate, 0.1)]) for name, rate in rates.items()]
    return Level(streams=streams, tokens=30, delay_ms=delay_ms, rounds=1, rows=made)


RATES = {DIRECT: 1000.0, LITELLM: 10.0, SSH: 5.0, HEADRACE: 400.0}
SIDE_BY_SIDE = SideBySide(
    machine=ON,
    contenders=dict.fromkeys(RATES, "something"),
    missing={"another": "not installed"},
    levels=[level(1, 0, RATES), level(16, 0, RATES), level(1000, 20, RATES)],
)


def verdicts(results: Results) -> dict[str, Aim]:
    return {each.measure: each for each in aims(results)}


def test_aims_are_ratios_of_one_run() -> None:
    found = verdicts(Results(side_by_side=SIDE_BY_SIDE))
    added = found["first token added over direct, 1 stream, median"]
    assert (added.reached, added.met) == ("1.5 ms", True)
    assert found["the median over what LiteLLM adds"].reached == number(1.5 / 99)
    assert found["requests/s at 16 streams of 30 tokens over LiteLLM"].reached == "40"
    assert found["requests/s at 16 streams of 30 tokens over direct"].met
    assert found["token gap at 1,000 streams of 20 ms over direct, median"].reached == "1"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    for aim in aims(Results()):
        assert (aim.reached, aim.met) == ("not measured", None)
    without = msgspec.structs.replace(SIDE_BY_SIDE, levels=[level(16, 0, {DIRECT: 10.0})])
    assert all(aim.met is None for aim in aims(Results(side_by_side=without)))


def point(x: int, first: float, publish: float) -> Point:
    return Point(
        x=x, first_token=spread([first]), rss_mib={"edge": 40.0}, idle_cpu_ms={"edge": 1.0},
        more={"publish_p50": publish},
    )  # fmt: skip


def test_the_deepest_queue_is_held_against_the_empty_one() -> None:
    points = [point(0, 4.0, 0.5), point(10, 9.0, 9.0), point(5000, 5.0, 0.5)]
    growth = Growth(machine=ON, curves={"queue": points}, missing={})
    found = verdicts(Results(growth=growth))
    assert found["publish with 5,000 queued over an empty queue, median"].reached == "1"
    assert found["first token with 5,000 queued over an empty queue, median"].met is False


def test_hops_add_up_to_the_whole_path() -> None:
    times = {"engine": 0.001, "hub": 0.002, "worker": 0.004, "SSH": 0.005, "edge": 0.008}
    found = hops.shares({path: [each] for path, each in times.items()})
    assert [round(hop.added, 6) for hop in found] == [1, 2, 1, 1, 3]
    assert sum(hop.share for hop in found) == pytest.approx(1)


def test_a_part_is_judged_by_its_busiest_process() -> None:
    part = alone.Part(
        name="edge", what="", own=("edge", "helper"), model="m", frames=10, count_frames=True
    )
    found = alone.alone(part, 5.0, {"edge": 0.001, "helper": 0.0005, "hub": 1.0})
    assert (found.unit, found.per_second) == ("frames", 50)
    assert found.per_core == pytest.approx(10_000)
    assert found.cpu_us["hub"] == pytest.approx(100_000)


def test_answers_made_beforehand_are_answers() -> None:
    events = b"".join(stub_worker.events("m", 5))
    answer = answers.streamed([(1.0, events)])
    assert (len(answer.times), answer.complete) == (5, True)
    head, _, body = canned.answer(3).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body.count(b"data: ") == 5
    assert body.endswith(b"0\r\n\r\n")


def test_numbers_that_there_were_none_of_survive_a_file(tmp_path: Path) -> None:
    nothing = Spread(p50=math.nan, p90=1.0, p99=1.0, max=1.0, mean=1.0)
    made = Growth(
        machine=ON,
        curves={"queue": [msgspec.structs.replace(point(1, 1.0, 1.0), first_token=nothing)]},
        missing={"edges": "why"},
    )
    keep(made, tmp_path / "growth.json")
    found = read(tmp_path)
    assert found.growth is not None
    assert math.isnan(found.growth.curves["queue"][0].first_token.p50)
    assert found.growth.missing == {"edges": "why"}
    assert found.side_by_side is None


def test_the_page_says_what_failed_and_what_is_too_short() -> None:
    parts = {"hops": Done(seconds=1.0, failure="no sshd")}
    run = Run(machine=ON, size="quick", begun="", parts=parts)
    page = report.page(Results(run=run, side_by_side=SIDE_BY_SIDE))
    assert "**hops failed: no sshd**" in page
    assert "too short" in page
    assert "**side_by_side is of an earlier run, at commit unknown.**" in page
    assert "**another is missing: not installed**" in page
    assert "### 1,000 streams of 30 tokens, 20 ms apart" in page


def test_tables_are_markdown() -> None:
    assert tables.table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |", ""]
    lines = tables.level(SIDE_BY_SIDE.levels[1])
    assert {line.count("|") for line in lines[:-1]} == {lines[0].count("|")}
