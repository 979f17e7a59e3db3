"""One point of a growth curve: what a request costs when there is so much of something."""

import asyncio
from collections.abc import Mapping
from time import perf_counter

import msgspec

from loadtests.bench import meter
from loadtests.bench.models import FAST
from loadtests.bench.stage import Stage
from loadtests.load.loops import closed
from loadtests.load.plans import Closed, Plan
from loadtests.load.requests import Requester
from loadtests.load.samples import Spread, spread


class Effort(msgspec.Struct, frozen=True):
    """By how many requests a point is measured, and how long nobody asks for anything."""

    turns: int = 200
    idle_seconds: float = 3.0


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """At `x` of something: first token of single requests in ms, memory, and the cost of idling.

    `idle_cpu_ms` is the processor time in ms that each process takes in a second in which nobody
    asks for anything. `more` holds what only one curve has.
    """

    x: int
    first_token: Spread
    rss_mib: dict[str, float]
    idle_cpu_ms: dict[str, float]
    more: dict[str, float] = {}


async def point(
    stage: Stage,
    x: int,
    effort: Effort,
    *,
    model: str = FAST.name,
    verify: bool = True,
    roots: Mapping[str, int] | None = None,
    more: Mapping[str, float] | None = None,
) -> Point:
    """Measure a point as things stand. Raises RuntimeError for a request that goes wrong."""
    first = await first_token(stage, effort.turns, model, verify=verify)
    pids = dict(roots or stage.pids())
    before = meter.look(pids)
    await asyncio.sleep(effort.idle_seconds)
    after = meter.look(pids)
    return Point(
        x=x,
        first_token=first,
        rss_mib={name: usage.rss_bytes / 2**20 for name, usage in after.items()},
        idle_cpu_ms={
            name: seconds * 1e3 / effort.idle_seconds
            for name, seconds in meter.spent(before, after).items()
        },
        more=dict(more or {}),
    )


async def first_token(stage: Stage, turns: int, model: str, *, verify: bool = True) -> Spread:
    """First-token times in ms of requests through the whole path, one after the other."""
    plan = Plan(
        target=stage.url, api_key=stage.key, model=model, arrivals=Closed(1), requests=1,
        seconds=3600, verify=verify,
    )  # fmt: skip
    requester = Requester(plan)
    unmeasured = max(3, turns // 10)
    try:
        made = await closed(
            requester, msgspec.structs.replace(plan, requests=unmeasured + turns), 1,
            perf_counter(), unmeasured + turns,
        )  # fmt: skip
    finally:
        requester.close()
    wrong = {sample.outcome for sample in made} - {"ok"}
    if wrong:
        raise RuntimeError(f"requests for {model} went wrong: {wrong}")
    return spread((sample.first_token for sample in made[unmeasured:]), 1e3)
