"""One user floods a model, and ten others who ask now and then wait no more than twice as long.

They ask at the same times in both halves of a test, several things at about the same moment, so
that they wait for each other even without the flood. Their waiting time is from the request to its
first token; where the only edge is restarted it begins anew as they come back.
"""

import asyncio
import random
import signal
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.fair_kit import Ask, Seen, Town, rounds, town, waits
from tests.nats import StartNats

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(150)]

USERS: Final = [f"user-{number}" for number in range(10)]
FLOODER: Final = "flooder"
FLOOD: Final = 1000
FLOOD_SECONDS: Final = 1.0
"""How long it takes to come in: as fast as an edge and its clients can on one small machine."""
SLOTS: Final = 8
TIMES: Final = 2.0
"""The promise."""

NOW_AND_THEN: Final = rounds(USERS, every=1.5, count=4, each=3, spread=0.1, seed=1)
"""Half of what the slots can do: thirty requests at about the same time, for eight slots."""

SECOND_ROUND: Final = 1.6
"""In its middle edges are restarted."""


class Case(msgspec.Struct, frozen=True):
    """Where the flood comes."""

    clusters: int = 1
    edges: int = 1
    restart: signal.Signals | None = None
    """Whether the first edge is restarted, and how it ends."""
    to_the_end: bool = False
    """Whether the flooder waits for all of its answers, or goes when the others have theirs."""


CASES: Final = {
    "one-cluster": Case(),
    "two-clusters": Case(clusters=2, edges=2),
    "an-edge-that-is-killed": Case(restart=signal.SIGKILL, to_the_end=True),
    "one-of-two-edges-restarted": Case(clusters=2, edges=2, restart=signal.SIGTERM),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_flood_at_most_doubles_the_waiting_of_others(
    nats_process: StartNats, tmp_path: Path, record_property: Any, name: str
) -> None:
    case = CASES[name]
    async with town(
        nats_process, tmp_path, [*USERS, FLOODER],
        clusters=case.clusters, edges=case.edges, slots=SLOTS,
    ) as made:  # fmt: skip
        calm = await others(made, case)
        flood = asyncio.create_task(made.live(the_flood()))
        await asyncio.sleep(FLOOD_SECONDS + 0.5)
        pressed = await others(made, case)
        answered = made.answered[FLOODER]
        if case.to_the_end:
            flooded = await flood
            answered = sum(seen.ok for seen in flooded)
            # Nobody starves.
            assert answered == FLOOD
        else:
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)
    assert all(seen.ok for seen in calm + pressed)
    before, after = (waits(seen.first for seen in each) for each in (calm, pressed))
    whole = waits(seen.whole for seen in pressed).times(waits(seen.whole for seen in calm))
    told = "/".join(f"{times:.2f}" for times in after.times(before))
    record_property(
        "told", f"a flood of {FLOOD}, {name}: ten others wait {told} times as long (mean/median/"
        f"90th percentile) for the first token, {after} ms instead of {before} ms, and "
        f"{whole[0]:.2f} times for the whole answer; {answered} of the flood were answered",
    )  # fmt: skip
    assert max(after.times(before)) <= TIMES


async def others(made: Town, case: Case) -> list[Seen]:
    """What comes of the requests of those who ask now and then."""
    asked = asyncio.create_task(made.live(NOW_AND_THEN))
    if case.restart is not None:
        await made.restart(SECOND_ROUND, case.restart)
    return await asked


def the_flood() -> list[Ask]:
    """All of it within a second, of answers like the others'."""
    chance = random.Random(2)
    return [
        Ask(FLOODER, FLOOD_SECONDS * number / FLOOD, chance.randint(5, 15), stream=False, back=2.0)
        for number in range(FLOOD)
    ]
