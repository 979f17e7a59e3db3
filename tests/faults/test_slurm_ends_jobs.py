"""Slurm takes workers away, by preemption and at the end of walltimes: no request is lost."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from headrace.devcluster.local import HIGH, LocalOptions
from tests.support.running_demo import expected, stream
from tests.support.slurm_site import Farm, eventually, running
from tests.support.steady_load import http_session, load

pytestmark = [
    pytest.mark.anyio, pytest.mark.slurm, pytest.mark.openssh, pytest.mark.timeout(400),
]  # fmt: skip

STREAMS = 50


async def test_a_preempted_worker_finishes_what_it_has_begun_within_the_grace(
    tmp_path: Path, record_property: Any
) -> None:
    """With partition priorities: the worker is told, and has ten seconds."""
    options = LocalOptions(kill_wait=3, grace_seconds=10)
    with running(tmp_path / "farm", options=options) as farm:
        (place,) = farm.places.values()
        # Streams of 2 s, more of them than one worker has slots: some always wait.
        farm.serve(
            slots=4, drain_seconds=8.0, scale={"min": 1, "max": 2}, env={"SIM_DELAY_MS": "20"}
        )
        await eventually(lambda: place.workers("ready"), 60, farm)
        async with (
            http_session(120) as http,
            load(http, farm.info, every=0.4, tokens=100) as asked,
        ):
            await asyncio.sleep(4)
            (worker, *_) = place.workers("ready")
            began = time.time()
            place.submit_other(
                f"--partition={HIGH}", f"--nodelist={worker.node}", "--gres=gpu:4", "--time=1"
            )
            await eventually(lambda: worker.job not in ready(farm), 30, farm)
            gone = time.time() - began
            await eventually(lambda: place.workers("ready"), 60, farm)
            await asyncio.sleep(3)
        failed = await asked.failed()
    record_property(
        "told", f"preempted: of {len(asked.asked)} streams {len(failed)} failed; "
        f"the worker had left after {gone:.1f} s",
    )  # fmt: skip
    assert not failed


async def test_streams_longer_than_the_grace_go_on_elsewhere(
    tmp_path: Path, record_property: Any
) -> None:
    """Streams of ten seconds, a drain of two: whatever the worker has not finished, another one
    continues."""
    options = LocalOptions(kill_wait=3, grace_seconds=4)
    with running(tmp_path / "farm", options=options) as farm:
        (place,) = farm.places.values()
        farm.serve(
            slots=STREAMS, drain_seconds=2.0, scale={"min": 2, "max": 2}, env={"SIM_DELAY_MS": "20"}
        )
        await eventually(lambda: len(place.workers("ready")) == 2, 60, farm)
        async with http_session(120) as http:
            asked = [
                asyncio.create_task(stream(http, farm.info, f"long {number}", 500))
                for number in range(STREAMS)
            ]
            await asyncio.sleep(3)
            (worker, _) = place.workers("ready")
            place.submit_other(
                f"--partition={HIGH}", f"--nodelist={worker.node}", "--gres=gpu:4", "--time=1"
            )
            outcomes = await asyncio.gather(*asked)
    for number, outcome in enumerate(outcomes):
        assert outcome.done, outcome
        assert outcome.text == expected(farm.info, f"long {number}", 500)
        assert not outcome.error
    slowest = max(outcome.seconds for outcome in outcomes)
    record_property(
        "told", f"preempted: {STREAMS} of {STREAMS} long streams went on, {slowest:.1f} s at most"
    )


async def test_a_model_crosses_three_walltimes_and_is_always_there(
    tmp_path: Path, record_property: Any
) -> None:
    """Of a minute, Slurm's shortest. The next worker is ready before the last one goes."""
    with running(tmp_path / "farm") as farm:
        (place,) = farm.places.values()
        farm.serve(
            drain_seconds=5.0,
            scale={"max": 2, "load_seconds": 4.0, "service_seconds": 0.5},
            job={"time": "00:01:00"},
        )
        async with (
            http_session(60) as http,
            load(http, farm.info, every=0.25, tokens=20) as asked,
        ):
            await eventually(lambda: place.workers("ready"), 60, farm)
            jobs, now, gaps = set[int](), set[int](), []
            while len(jobs - now) < 3:
                now = ready(farm)
                if not now:
                    gaps.append(time.time())
                jobs |= now
                await asyncio.sleep(0.2)
        failed = await asked.failed()
        submissions = len(place.calls("sbatch"))
    record_property(
        "told", f"three walltimes: {len(asked.asked)} streams, {len(failed)} failed, "
        f"{len(gaps)} looks without a ready worker, {submissions} jobs",
    )  # fmt: skip
    assert not failed
    assert not gaps
    assert submissions <= len(jobs) + 1


def ready(farm: Farm) -> set[int]:
    """The jobs whose workers serve."""
    return {each.job for place in farm.places.values() for each in place.workers("ready")}
