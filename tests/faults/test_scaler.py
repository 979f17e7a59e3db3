"""The scaler's row: it is killed, asked to end and stopped, and no request notices."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.harness import scaler
from tests.faults.harness.faults import Fault
from tests.faults.harness.phases import Phase
from tests.faults.harness.verdict import Kind
from tests.support.slurm_site import Farm, running

pytestmark = [
    pytest.mark.anyio, pytest.mark.slurm, pytest.mark.openssh, pytest.mark.timeout(300),
]  # fmt: skip


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, guard_module: Any) -> Iterator[Farm]:
    with running(tmp_path_factory.mktemp("scaler")) as farm:
        farm.serve(scale={"min": 0, "max": 1})
        yield farm


@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        pytest.param(fault, phase, id=f"{fault.name}, {phase}")
        for fault in scaler.FAULTS
        for phase in scaler.PHASES
    ],
)
async def test_the_client_notices_nothing(farm: Farm, fault: Fault, phase: Phase) -> None:
    result = await scaler.cell(farm, fault, phase)
    assert {each for each in result.verdicts if each.kind is not Kind.UNBROKEN} == set()
