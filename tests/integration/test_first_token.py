"""The measure of added first-token time, on two engines of known difference."""

import os
from pathlib import Path

import pytest

from loadtests.first_token import FirstToken, compare, table
from loadtests.load.plans import Closed, Plan
from loadtests.sim.process import running


def plan(target: str, streams: int) -> Plan:
    return Plan(target=target, arrivals=Closed(streams), tokens=5)


@pytest.mark.parametrize(("streams", "requests"), [(1, 4), (3, 96)])
async def test_both_are_asked_in_turns(tmp_path: Path, streams: int, requests: int) -> None:
    with (
        running("--uds", str(tmp_path / "a.sock")) as fast,
        # One slot and 5 ms a token: a second stream's first token waits for all of the first's.
        running("--uds", str(tmp_path / "b.sock"), "--slots", "1", "--delay-ms", "5") as slow,
    ):
        plans = plan(fast.address, streams), plan(slow.address, streams)
        compared = await compare(*plans, streams, 4)
    assert compared.requests == requests
    assert compared.added_p50 == compared.through.p50 - compared.direct.p50
    if streams > 1:
        assert compared.added_p50 > 10
    result = FirstToken(
        tokens=5, delay_ms=0, cpus=os.cpu_count() or 0, python="", load_average=0,
        comparisons=[compared],
    )  # fmt: skip
    *_, last = table(result).splitlines()
    assert [float(each) for each in last.split()][:2] == [streams, requests]


async def test_a_wrong_answer_ends_the_measure(tmp_path: Path) -> None:
    with (
        running("--uds", str(tmp_path / "a.sock")) as right,
        running("--uds", str(tmp_path / "b.sock"), "--status", "500") as wrong,
        pytest.raises(RuntimeError, match="status 500"),
    ):
        await compare(plan(right.address, 1), plan(wrong.address, 1), 1, 3)
