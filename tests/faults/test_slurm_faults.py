"""A Slurm that breaks under a steady load: nothing is lost, nothing ended or submitted twice."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.slurm_site import COMMANDS, Farm, Place, eventually, running
from tests.support.steady_load import http_session, load

pytestmark = [
    pytest.mark.anyio, pytest.mark.slurm, pytest.mark.openssh, pytest.mark.timeout(300),
]  # fmt: skip

EVERY, TOKENS = 0.25, 20
"""A stream of some 0.4 s four times a second."""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, guard_module: Any) -> Iterator[Farm]:
    with running(tmp_path_factory.mktemp("slurm-faults")) as farm:
        farm.serve(scale={"min": 1, "max": 1, "load_seconds": 3.0})
        yield farm


@pytest.fixture
async def place(farm: Farm) -> AsyncIterator[Place]:
    """The cluster, with a worker that serves."""
    (place,) = farm.places.values()
    await eventually(lambda: fresh(place) and place.workers("ready"), 60, farm)
    yield place
    for name in COMMANDS:
        place.mend_command(name)


def running_jobs(place: Place) -> set[int]:
    return {each.job for each in place.workers("ready")}


def replaced(place: Place, job: int) -> bool:
    """Whether others serve, and this one no more: one that was cancelled does for a moment."""
    running = running_jobs(place)
    return bool(running) and job not in running


@pytest.mark.parametrize("how", ["fail", "hang", "empty", "garbage"])
async def test_a_squeue_that_does_not_tell_the_truth_ends_nothing(
    farm: Farm, place: Place, how: str
) -> None:
    before, submitted = running_jobs(place), len(place.calls("sbatch"))
    async with http_session(60) as http, load(http, farm.info, every=EVERY, tokens=TOKENS) as asked:
        place.break_command("squeue", how)
        # With a squeue that lies empty this is beyond what heartbeats alone could explain away.
        await asyncio.sleep(8)
        assert not place.calls("scancel")
        place.mend_command("squeue")
        await asyncio.sleep(2)
        await eventually(lambda: fresh(place), 60, farm)
    assert not await asked.failed()
    assert running_jobs(place) == before, farm.told()
    assert len(place.calls("sbatch")) == submitted


async def test_an_sbatch_that_fails_is_tried_again_and_not_too_often(
    farm: Farm, place: Place
) -> None:
    (job,) = running_jobs(place)
    place.break_command("sbatch", "fail")
    before = len(place.calls("sbatch"))
    await place.client().cancel([job])
    async with http_session(120) as http, load(http, farm.info, every=1.0, tokens=TOKENS) as asked:
        await eventually(lambda: len(place.calls("sbatch")) >= before + 2, 60, farm)
        assert "sbatch" in " ".join(place.status().problems)
        place.mend_command("sbatch")
        await eventually(lambda: replaced(place, job), 120, farm)
        tries = [at for at, _ in place.calls("sbatch")[before:]]
    assert all(later - earlier > 3 for earlier, later in itertools.pairwise(tries)), tries
    assert not await asked.failed()


async def test_an_sbatch_whose_answer_is_lost_is_not_done_twice(farm: Farm, place: Place) -> None:
    (job,) = running_jobs(place)
    place.break_command("sbatch", "lost")
    before = len(place.calls("sbatch"))
    await place.client().cancel([job])
    async with http_session(120) as http, load(http, farm.info, every=1.0, tokens=TOKENS) as asked:
        await eventually(lambda: len(place.calls("sbatch")) > before, 30, farm)
        await eventually(lambda: replaced(place, job), 60, farm)
        place.mend_command("sbatch")
    assert len(place.calls("sbatch")) == before + 1
    assert not await asked.failed()


async def test_a_controller_that_is_away_for_a_minute_changes_nothing(
    farm: Farm, place: Place, record_property: Any
) -> None:
    before, submitted = running_jobs(place), len(place.calls("sbatch"))
    async with (
        http_session(120) as http,
        load(http, farm.info, every=EVERY, tokens=TOKENS) as asked,
    ):
        place.slurm.stop_controller()
        await asyncio.sleep(60)
        assert place.status().problems
        await asyncio.to_thread(place.slurm.start_controller)
        await eventually(lambda: fresh(place), 60, farm)
    assert not await asked.failed()
    assert running_jobs(place) == before, farm.told()
    assert len(place.calls("sbatch")) == submitted
    record_property("told", f"slurmctld away for 60 s: {len(asked.asked)} streams, none failed")


async def test_a_node_that_dies_is_replaced(farm: Farm, place: Place, record_property: Any) -> None:
    (worker,) = place.workers("ready")
    async with (
        http_session(120) as http,
        load(http, farm.info, every=EVERY, tokens=TOKENS) as asked,
    ):
        await asyncio.sleep(2)
        died = time.time()
        await asyncio.to_thread(place.slurm.kill_node, worker.node)
        await eventually(lambda: replaced(place, worker.job), 50, farm)
        back = time.time() - died
        await asyncio.sleep(2)
    await asyncio.to_thread(place.slurm.start_node, worker.node)
    assert not await asked.failed(), farm.told()
    record_property(
        "told", f"node killed: replaced after {back:.1f} s; {len(asked.asked)} streams, none failed"
    )


def fresh(place: Place) -> bool:
    """Whether the scaler has heard from Slurm just now."""
    status = place.status()
    return not status.problems and time.time() - status.slurm_at < 3
