"""Two clusters serve one model, each with a Slurm of its own, and one goes away entirely."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_demo import expected, stream
from tests.support.slurm_site import Farm, eventually, running
from tests.support.steady_load import http_session, load

pytestmark = [
    pytest.mark.anyio, pytest.mark.slurm, pytest.mark.openssh, pytest.mark.timeout(300),
]  # fmt: skip


async def test_everything_goes_on_in_the_cluster_that_is_left(
    tmp_path: Path, record_property: Any
) -> None:
    with running(tmp_path / "farm", ("alpha", "beta")) as farm:
        farm.serve(slots=2, scale={"min": 1, "max": 2}, env={"SIM_DELAY_MS": "40"})
        alpha, beta = farm.places["alpha"], farm.places["beta"]
        await eventually(lambda: alpha.workers("ready") and beta.workers("ready"), 60, farm)
        async with http_session(120) as http:
            # Three times what both can do at once: most of it waits when the cluster goes.
            asked = [
                asyncio.create_task(stream(http, farm.info, f"both {number}", 50))
                for number in range(30)
            ]
            await asyncio.sleep(3)
            died = time.time()
            destroy(farm, "alpha")
            outcomes = await asyncio.gather(*asked)
            slowest = max(outcome.begun + outcome.seconds for outcome in outcomes) - died
            for number, outcome in enumerate(outcomes):
                assert outcome.done, (outcome, farm.told())
                assert outcome.text == expected(farm.info, f"both {number}", 50)
                assert not outcome.error
            # And it goes on with one.
            async with load(http, farm.info, every=0.5, tokens=10) as later:
                await asyncio.sleep(5)
            assert not await later.failed()
    record_property(
        "told", f"a cluster gone: 30 of 30 streams went on in the other one, the last had ended "
        f"{slowest:.1f} s later",
    )  # fmt: skip


async def test_two_clusters_do_not_both_keep_a_worker_that_one_needs(
    tmp_path: Path, record_property: Any
) -> None:
    """Both may start one, for nobody knows which Slurm is quicker. One of them stays, and no other
    starts."""
    with running(tmp_path / "farm", ("alpha", "beta")) as farm:
        farm.serve(scale={"max": 2, "idle_seconds": 3.0, "service_seconds": 0.5})
        async with (
            http_session(120) as http,
            load(http, farm.info, every=0.5, tokens=10) as asked,
        ):
            await eventually(lambda: jobs(farm, "ready"), 60, farm)
            await eventually(lambda: len(jobs(farm)) == 1, 60, farm)
            one = jobs(farm)
            for _ in range(50):
                await asyncio.sleep(0.2)
                assert jobs(farm) == one
        assert not await asked.failed()
        submissions = sum(len(place.calls("sbatch")) for place in farm.places.values())
    record_property("told", f"two clusters, work for one worker: {submissions} submissions")
    assert submissions <= 2


def destroy(farm: Farm, name: str) -> None:
    """Everything of a cluster at once, as when its power fails."""
    for part in ("sshd", "leaf", "scaler"):
        farm.kill(f"{name}-{part}")
    farm.places[name].slurm.stop()


def jobs(farm: Farm, phase: str = "") -> set[tuple[str, int]]:
    return {
        (place.name, each.job) for place in farm.places.values() for each in place.workers(phase)
    }
