"""The load generator's parts: addresses, arrivals, reading answers, percentiles."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loadtests.generator import parse as parse_arguments
from loadtests.load import answers, arrivals
from loadtests.load.addresses import Address, parse
from loadtests.load.plans import Bursts, Closed, Plan, Poisson, Recorded
from loadtests.load.samples import Sample, percentile, spread, summary

NAN = math.nan


def test_addresses() -> None:
    assert parse("unix:/run/e.sock") == Address(uds="/run/e.sock")
    for text in ("http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1"):
        assert parse(text) == Address(host="127.0.0.1", port=8080)
    assert parse("http://h/a/v1/") == Address(host="h", port=80, prefix="/a")
    for wrong in ("https://h", "h:80", ""):
        with pytest.raises(ValueError, match="not an address"):
            parse(wrong)


def test_poisson_arrivals_have_their_rate_and_spread() -> None:
    plan = Plan(target="", arrivals=Poisson(100), seconds=100, seed=1)
    moments = list(arrivals.moments(plan))
    assert moments == sorted(moments)
    assert moments == list(arrivals.moments(plan))
    assert len(moments) == pytest.approx(10_000, rel=0.05)
    gaps = [after - before for before, after in pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert deviation == pytest.approx(mean, rel=0.1)


def test_bursts_and_the_bound_on_requests() -> None:
    plan = Plan(target="", arrivals=Bursts(3, 2.0), seconds=5)
    assert list(arrivals.moments(plan)) == [0, 0, 0, 2, 2, 2, 4, 4, 4]
    plan = Plan(target="", arrivals=Bursts(3, 2.0), seconds=5, requests=4)
    assert list(arrivals.moments(plan)) == [0, 0, 0, 2]


TRACE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.6805900,396,109
2023-11-16 18:15:51.1805900,879,0
2023-11-16 18:16:51.1805900,879,5
"""


def test_recorded_arrivals_are_as_long_as_recorded(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    plan = Plan(target="", arrivals=Recorded(str(path), speed=2.0), seconds=10, tokens=100)
    assert list(arrivals.arrivals(plan)) == [(0.0, 44), (2.0, 100), (2.25, 1)]


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no trace"):
        list(arrivals.moments(Plan(target="", arrivals=Recorded(str(path)))))


def test_a_closed_loop_has_no_moments() -> None:
    with pytest.raises(ValueError, match="closed"):
        list(arrivals.moments(Plan(target="", arrivals=Closed(1))))


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([1.0], 99, 1.0), ([1.0, 2.0], 50, 1.5), ([1.0, 2.0, 3.0, 4.0, 5.0], 90, 4.6)],
)
def test_percentiles(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 50))
    assert math.isnan(spread([NAN]).mean)
    assert spread([NAN, 2.0], 1e3).p50 == 2000


def test_a_summary_counts_only_what_went_well() -> None:
    samples = [
        Sample("ok", 10.0, 0.1, 0.5, NAN, [0.1, 0.3]),
        Sample("ok", 10.5, 0.3, 1.5, NAN, [0.1, 0.5]),
        Sample("timeout", 10.0, NAN, 2.0, NAN, []),
        Sample("status 503", 10.0, 0.9, 2.0, NAN, [9.0]),
    ]
    result = summary(samples, 0.25)
    assert result.outcomes == {"ok": 2, "timeout": 1, "status 503": 1}
    assert (result.seconds, result.requests_per_second, result.tokens_per_second) == (2.0, 1.0, 3.0)
    assert result.first_token_ms.p50 == pytest.approx(200)
    assert result.gap_ms.max == pytest.approx(500)


def test_tokens_that_came_before_a_time_out_count() -> None:
    samples = [
        Sample("ok", 10.0, 0.1, 1.0, NAN, [0.1, 0.1]),
        Sample("timeout", 10.0, 0.3, 2.0, NAN, [0.5]),
    ]
    result = summary(samples, 0.0)
    assert (result.requests_per_second, result.tokens_per_second) == (0.5, 2.5)
    assert result.gap_ms.max == pytest.approx(500)
    assert result.total_ms.max == pytest.approx(1000)


def event(text: str | None = None, finish: str | None = None) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def test_tokens_have_the_moment_of_their_last_byte() -> None:
    one, two = event("a"), event("b", "stop")
    pieces = [
        (1.0, b": queued position=1\n\n" + event("") + one[:9]),
        (2.0, one[9:] + two[:-1]),
        (3.0, two[-1:] + DONE),
    ]
    answer = answers.streamed(pieces)
    assert (answer.text, answer.times, answer.complete, answer.error) == (
        "ab",
        [2.0, 3.0],
        True,
        "",
    )


@pytest.mark.parametrize(
    "pieces",
    [[event("a")], [event("a", "stop")], [event("a"), DONE], [event("a", "stop"), DONE[:-1]]],
)
def test_an_answer_that_does_not_end_is_not_complete(pieces: list[bytes]) -> None:
    assert not answers.streamed([(0.0, piece) for piece in pieces]).complete


def test_an_error_in_the_stream_is_told() -> None:
    failure = b'data: {"error": {"code": "worker_lost", "message": "gone"}}\n\n'
    answer = answers.streamed([(0.0, event("a") + failure)])
    assert (answer.error, answer.complete) == ("worker_lost", False)


def test_a_whole_answer() -> None:
    choice = {"message": {"role": "assistant", "content": "a b"}, "finish_reason": "length"}
    answer = answers.whole(json.dumps({"choices": [choice]}).encode(), 1.0)
    assert (answer.text, answer.complete) == ("a b", True)
    assert answers.whole(b'{"error": {"code": 500}}', 1.0).error == "500"


def test_the_command_line() -> None:
    plan, processes = parse_arguments(["unix:/s", "--rate", "5", "--processes", "2", "--no-verify"])
    assert (plan.arrivals, plan.verify, plan.tokens, processes) == (Poisson(5), False, 30, 2)
    plan, _ = parse_arguments(["unix:/s", "--burst", "10", "0.5"])
    assert plan.arrivals == Bursts(10, 0.5)
    plan, _ = parse_arguments(["unix:/s", "--trace", "t.csv", "--speed", "3"])
    assert plan.arrivals == Recorded("t.csv", 3.0)
    plan, _ = parse_arguments(["unix:/s", "--streams", "16"])
    assert plan.arrivals == Closed(16)
