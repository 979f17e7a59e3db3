"""The most important faults in the phases where they hurt most; `make faults` has them all.

What must go on unbroken here is what ADR 10 promises. Everything else has a right to a typed
error, and in no cell anything may be lost, doubled or left hanging.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.faults.harness import cell
from tests.faults.harness.cell import Result
from tests.faults.harness.faults import Blow, Fault
from tests.faults.harness.phases import Phase
from tests.faults.harness.race import second_thoughts
from tests.faults.harness.site import Plan, Site, running
from tests.faults.harness.verdict import Kind, Verdict

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.timeout(120)]

UNBROKEN = [
    (Fault("worker", "kill"), Phase.DELIVERED),
    (Fault("worker", "kill"), Phase.MID_STREAM),
    (Fault("worker", "kill"), Phase.LAST),
    (Fault("worker", "term"), Phase.MID_STREAM),
    (Fault("engine", "kill"), Phase.MID_STREAM),
    (Fault("ssh", "refuse", 8), Phase.MID_STREAM),
    (Fault("gate", "kill"), Phase.BEFORE_FIRST),
    (Fault("leaf", "kill"), Phase.MID_STREAM),
    (Fault("hub", "kill"), Phase.QUEUED),
    (Fault("hub", "kill"), Phase.MID_STREAM),
    (Fault("bridge", "kill"), Phase.MID_STREAM),
    (Fault("bridge", "kill"), Phase.LAST),
    (Fault("edge", "cut"), Phase.ACCEPTED),
]
ENDED = [
    (Fault("edge", "kill"), Phase.MID_STREAM),
    (Fault("hub", "memory"), Phase.MID_STREAM),
]


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, guard_module: Any) -> AsyncIterator[Site]:
    plan = Plan(deadline_seconds=60.0)
    async with running(tmp_path_factory.mktemp("matrix"), plan) as site:
        yield site


def named(cases: list[tuple[Fault, Phase]]) -> list[Any]:
    return [pytest.param(*case, id=f"{case[0].name}, {case[1]}") for case in cases]


@pytest.mark.parametrize(("fault", "phase"), named(UNBROKEN))
async def test_the_client_notices_nothing(
    site: Site, fault: Fault, phase: Phase, record_property: Any
) -> None:
    result = await cell.run(site, Blow(fault, site.workers[0]), phase)
    tell(result, record_property)
    assert {each for each in result.verdicts if each.kind is not Kind.UNBROKEN} == set()


async def test_a_silent_worker_that_speaks_first_goes_on(site: Site) -> None:
    assert await second_thoughts(site) == Verdict(Kind.UNBROKEN)


@pytest.mark.parametrize(("fault", "phase"), named(ENDED))
async def test_every_request_ends_once(
    site: Site, fault: Fault, phase: Phase, record_property: Any
) -> None:
    result = await cell.run(site, Blow(fault, site.workers[0]), phase)
    tell(result, record_property)
    assert not result.bad
    assert not result.left_over


def tell(result: Result, record_property: Any) -> None:
    record_property(
        "told",
        f"{result.blow.fault.name}, {result.phase}: {result.count(Kind.UNBROKEN)} of "
        f"{len(result.verdicts)} unbroken, {result.slowest:.1f} s at most",
    )
