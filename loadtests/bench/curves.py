"""Growth with the number of models, workers, edge processes and waiting connections."""

import re
from collections.abc import Sequence
from time import perf_counter
from typing import Final

from headrace.cli.http import get
from loadtests.bench import meter
from loadtests.bench.crowd import Crowd, message
from loadtests.bench.hops import stub
from loadtests.bench.models import ASLEEP, FAST, NAMES, STUB
from loadtests.bench.points import Effort, Point, point
from loadtests.bench.stage import Stage
from loadtests.load.addresses import parse
from loadtests.load.fleet import measure
from loadtests.load.plans import Closed, Plan

HELD_SECONDS: Final = 60.0
PROMPT: Final = "x" * 1000
STREAMS: Final = 16
LOAD_SECONDS: Final = 3.0


async def models(stage: Stage, counts: Sequence[int], effort: Effort) -> list[Point]:
    """So many models offered, one of them with a worker: the edge is started anew with each."""
    await stage.serve(FAST)
    points = []
    try:
        for count in counts:
            stage.offer([FAST.name, *(f"model-{n}" for n in range(count - 1))])
            began = perf_counter()
            await stage.restart_edge(FAST.name)
            await queue_ready(stage)
            seconds = perf_counter() - began
            points.append(await point(stage, count, effort, more={"start_seconds": seconds}))
    finally:
        stage.offer(NAMES)
        await stage.restart_edge()
    return points


async def queue_ready(stage: Stage) -> None:
    """Send one request: it is let in when every model has its queue."""
    plan = Plan(
        target=stage.url, api_key=stage.key, model=FAST.name, arrivals=Closed(1), requests=1,
        seconds=3600,
    )  # fmt: skip
    while "ok" not in (await measure(plan, 1)).outcomes:
        pass


async def workers(stage: Stage, counts: Sequence[int], effort: Effort) -> list[Point]:
    """So many workers of one model, with pulls and heartbeats but no engine, behind SSH."""
    points = []
    for count in counts:
        async with stub(stage, STUB, workers=count):
            points.append(await point(stage, count, effort, model=STUB, verify=False))
    return points


async def edges(stage: Stage, counts: Sequence[int], effort: Effort) -> list[Point]:
    """So many edge processes on one port, and what they take together at 16 streams."""
    await stage.serve(FAST)
    load = Plan(
        target=stage.url, api_key=stage.key, model=FAST.name, arrivals=Closed(STREAMS),
        seconds=LOAD_SECONDS,
    )  # fmt: skip
    points = []
    try:
        for count in counts:
            await stage.restart_edge(FAST.name, HEADRACE_EDGE__PROCESSES=str(count))
            made = await measure(load, 1)
            more = {"requests_per_second": made.requests_per_second}
            points.append(await point(stage, count, effort, more=more))
    finally:
        await stage.restart_edge()
    return points


async def waiting(stage: Stage, counts: Sequence[int], effort: Effort) -> list[Point]:
    """So many connections that wait on one edge process, for a model without a worker."""
    await stage.serve(FAST)
    await stage.restart_edge(FAST.name)
    address = parse(stage.url)
    crowd = Crowd(address, message(address, stage.key, ASLEEP, PROMPT, 30))
    points = []
    before = 0
    try:
        for count in sorted({0, *counts}):
            await crowd.grow(count - len(crowd))
            await crowd.held(HELD_SECONDS)
            held = meter.rss(stage.pid("edge"))
            if not count:
                # After a few requests, so that what is loaded on the first use does not count.
                points.append(await point(stage, count, effort))
                before = meter.rss(stage.pid("edge"))
                continue
            more = {"kib_each": (held - before) / 1024 / count, "told": float(crowd.answered())}
            points.append(await point(stage, count, effort, more=more))
            if live(stage) < count:
                raise RuntimeError("some that should wait have been turned away")
    finally:
        crowd.close()
    return points


def live(stage: Stage) -> int:
    """How many requests the edge says that it holds."""
    _, page = get(stage.url.removesuffix("/v1") + "/metrics")
    found = re.search(rb"^headrace_edge_live_requests\S* (\d+)", page, re.MULTILINE)
    return int(found[1]) if found else 0
