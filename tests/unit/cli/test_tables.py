"""What operators see: tables of a status, and how loud an old one is."""

import io

import pytest
from rich.console import Console, RenderableType

from headrace.cli.operate import formatting, freshness, tables
from headrace.cli.operate.top import is_well
from tests.unit.cli.status_samples import NOW, status


def shown(what: RenderableType, *, colour: bool = False) -> str:
    file = io.StringIO()
    Console(file=file, width=180, force_terminal=colour, highlight=False).print(what)
    return file.getvalue()


def line(text: str, start: str) -> list[str]:
    found = [each for each in text.splitlines() if each.strip().startswith(start)]
    assert len(found) == 1, text
    return found[0].split()


def test_a_model_and_its_workers_are_one_below_the_other() -> None:
    text = shown(tables.top(status(), NOW))
    assert "cluster alpha" in text
    model = line(text, "Qwen/Qwen3-8B")
    assert model[1:8] == ["ready", "12", "34s", "64", "2", "of", "2"]
    assert " ".join(model).endswith("(0-4) 912 12 requests wait")
    worker = line(text, "101")
    assert worker == ["101", "ready", "gpu1", "64/64", "2h05m", "912"]
    waiting = " ".join(line(text, "102"))
    assert waiting == "102 waiting 1m30s Resources, expected in 4m00s"
    order = [text.index(word) for word in ("Qwen/Qwen3-8B", "101", "102", "small", "103", "broken")]
    assert order == sorted(order)


def test_it_says_when_a_model_will_be_ready_and_why_it_failed() -> None:
    text = shown(tables.top(status(), NOW))
    assert "1 requests wait; ready in 40s to 1m30s" in text
    assert "FAILED: 5 jobs in a row died" in text


def test_what_is_wrong_is_red() -> None:
    text = shown(tables.top(status(problems=("squeue: timed out",)), NOW), colour=True)
    red = "\x1b[31m"
    assert f"{red}squeue: timed out" in text
    assert "\x1b[1;31mFAILED" in text


def test_a_name_is_not_markup() -> None:
    first = status().models[0]
    odd = type(first)(model="x", name="[bold]x[/bold]", phase=first.phase, reason="[red]y")
    text = shown(tables.top(status(models=(odd,)), NOW))
    assert "[bold]x[/bold]" in text
    assert "[red]y" in text


def test_an_old_picture_shouts() -> None:
    text = shown(tables.top(status(), NOW + 120), colour=True)
    assert "STALE: the scaler has written nothing for 2m02s" in text
    assert "\x1b[1;37;41mSTALE" in text


@pytest.mark.parametrize(
    ("age", "interval", "stale"), [(14, 1, False), (16, 1, True), (80, 30, False), (91, 30, True)]
)
def test_a_picture_is_stale_after_three_rounds(age: float, interval: float, stale: bool) -> None:
    seen = status(written=NOW, interval=interval, queue_at=NOW, slurm_at=NOW)
    assert freshness.of(seen, NOW + age).stale == stale


def test_a_fresh_picture_of_old_numbers_says_so() -> None:
    fresh = freshness.of(status(queue_at=NOW - 62, slurm_at=0.0), NOW)
    assert not fresh.stale
    assert fresh.warnings == (
        "the queue: last seen 1m00s before this picture was made", "the jobs: not seen yet",
    )  # fmt: skip


def test_well_is_fresh_without_problem_or_failure() -> None:
    models = status().models[:2]
    assert is_well(status(models=models), NOW)
    assert not is_well(status(models=models), NOW + 100)
    assert not is_well(status(models=models, problems=("x",)), NOW)
    assert not is_well(status(), NOW)


def test_jobs_are_one_a_line() -> None:
    text = shown(tables.jobs(status(), NOW))
    assert len(text.splitlines()) == 4
    assert line(text, "101") == [
        "101", "qwen3-8b", "ready", "gpu1", "1h05m", "2h05m", "64/64", "912",
    ]  # fmt: skip
    assert "Resources, expected in 4m00s" in " ".join(line(text, "102"))


def test_a_start_that_is_overdue_is_no_negative_time() -> None:
    late = status().models[0].workers[1]
    assert tables.why(late, NOW + 500) == "Resources, expected any moment"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0.4, "0s"), (59.4, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"),
     (86400, "1d00h"), (100_000, "1d03h")],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_an_interval_of_one_value_is_that_value() -> None:
    assert formatting.interval(4.0, 4.2) == "4s"
    assert formatting.interval(40, 90) == "40s to 1m30s"
