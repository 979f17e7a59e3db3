"""From zero to many and back on a real Slurm: nothing lost, oldest first, no flapping."""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.edge.api.validation import lane_of
from headrace.protocol.names import LANES
from tests.support.running_demo import Outcome, expected, stream
from tests.support.slurm_site import Farm, eventually, running, until
from tests.support.steady_load import http_session

pytestmark = [
    pytest.mark.anyio, pytest.mark.slurm, pytest.mark.openssh, pytest.mark.timeout(240),
]  # fmt: skip

REQUESTS = 200
KEYS = 4
SLOTS = 4


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with running(tmp_path / "farm", keys=KEYS) as farm:
        yield farm


async def test_the_first_request_wakes_the_model_and_all_that_piled_up_are_answered_in_order(
    farm: Farm, record_property: Any
) -> None:
    tokens = 5
    farm.serve(slots=SLOTS, scale={"max": 1})
    (place,) = farm.places.values()
    assert farm.state() == "cold"
    async with http_session(120) as http:

        async def ask(number: int) -> Outcome:
            info = farm.info | {"api_key": farm.keys[number % KEYS]}
            return await stream(http, info, f"piled {number}", tokens)

        first = time.time()
        asked = []
        for number in range(REQUESTS):
            asked.append(asyncio.create_task(ask(number)))
            await asyncio.sleep(0.01)  # so that they come one after the other
        outcomes = await asyncio.gather(*asked)
    for number, outcome in enumerate(outcomes):
        assert outcome.done, (number, outcome, farm.told())
        assert outcome.text == expected(farm.info, f"piled {number}", tokens)

    # With one worker nobody is served before somebody of the same lane who came well before: it
    # takes its slots' worth, and as much again to have at hand.
    for lane in LANES:
        firsts = [
            outcome.first
            for number, outcome in enumerate(outcomes)
            if lane_of(number // KEYS) == lane
        ]
        for number, at in enumerate(firsts[: -3 * SLOTS]):
            assert at < min(firsts[number + 3 * SLOTS :]), (lane, number)
    firsts = [outcome.first for outcome in outcomes]

    (submission, *more) = place.calls("sbatch")
    assert not more
    woken = submission[0] - first
    ready = logged(place.worker_log(), "ready")
    waited = min(firsts) - ready
    record_property(
        "told", f"from zero: sbatch {woken:.2f} s after the first request, first token "
        f"{waited:.2f} s after the worker was ready, {REQUESTS} of {REQUESTS} answered",
    )  # fmt: skip
    # On a machine that does nothing else these are a third of a second and some milliseconds. What
    # is asserted is that nothing waits for a round of the scaler, or of anything else.
    assert woken < 4.0
    assert waited < 2.0
    until(lambda: not place.workers(), 90)
    assert len(place.calls("sbatch")) == 1
    assert farm.state() == "cold"


async def test_a_burst_scales_to_the_maximum_and_back_without_flapping(
    farm: Farm, record_property: Any
) -> None:
    most, tokens = 3, 50
    farm.serve(
        slots=2,
        scale={"max": most, "patience": 0.2, "idle_seconds": 5.0},
        env={"SIM_DELAY_MS": "40"},
    )
    (place,) = farm.places.values()
    async with http_session(120) as http:
        asked = [
            asyncio.create_task(stream(http, farm.info, f"burst {number}", tokens))
            for number in range(60)
        ]
        await eventually(lambda: len(place.workers("ready")) == most, 60, farm)
        outcomes = await asyncio.gather(*asked)
    for number, outcome in enumerate(outcomes):
        assert outcome.done, (outcome, farm.told())
        assert outcome.text == expected(farm.info, f"burst {number}", tokens)
    # What it takes is the forecast's to forget the burst; that is a minute or so.
    await eventually(lambda: not place.workers(), 150, farm)
    submissions = len(place.calls("sbatch"))
    record_property("told", f"burst to {most} workers and back: {submissions} submissions")
    assert submissions == most


def logged(lines: list[dict[str, Any]], phase: str) -> float:
    """When a worker came to this phase, in Unix seconds."""
    (line,) = [each for each in lines if each["action"] == "phase" and each["phase"] == phase]
    return datetime.fromisoformat(line["time"]).timestamp()
