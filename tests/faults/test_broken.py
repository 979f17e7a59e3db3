"""Builds with a mistake in them: the harness must find it, or it would prove nothing."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import cell
from tests.faults.harness.faults import Blow, Fault
from tests.faults.harness.phases import Phase
from tests.faults.harness.race import second_thoughts
from tests.faults.harness.site import Plan, running
from tests.faults.harness.verdict import Kind

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.timeout(120)]


def plan(mistake: str) -> Plan:
    return Plan(deadline_seconds=20.0, broken=mistake)


async def test_a_worker_that_acknowledges_before_the_end(tmp_path: Path, guard_module: Any) -> None:
    async with running(tmp_path, plan("acknowledge-early")) as site:
        # Its requests still end well, for their edge finds out. But whoever asks the queue how
        # much there is to do is told a lie, and that ends workers that have work.
        with pytest.raises(AssertionError, match="streams and 0 messages"):
            await cell.run(site, Blow(Fault("worker", "kill"), site.workers[0]), Phase.MID_STREAM)


async def test_an_edge_that_ignores_the_numbers_of_frames(
    tmp_path: Path, guard_module: Any
) -> None:
    async with running(tmp_path, plan("ignore-numbers")) as site:
        blow = Blow(Fault("worker", "lose", 0.5), site.workers[0])
        result = await cell.run(site, blow, Phase.MID_STREAM)
        assert {Kind.MISSING, Kind.REORDERED} & {each.kind for each in result.bad}


async def test_an_edge_that_accepts_every_attempt(tmp_path: Path, guard_module: Any) -> None:
    async with running(tmp_path, plan("accept-anything")) as site:
        assert (await second_thoughts(site)).kind is Kind.DOUBLED
