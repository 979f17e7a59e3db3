"""The two ways of making load, within one process."""

import asyncio
from time import perf_counter

from loadtests.load.arrivals import arrivals
from loadtests.load.plans import Closed, Plan
from loadtests.load.requests import Requester
from loadtests.load.samples import Sample


async def run(plan: Plan, *, start: float, part: int = 0, parts: int = 1) -> list[Sample]:
    """Make one process's share of the load, from `start`, a `perf_counter` for all processes."""
    requester = Requester(plan, part)
    try:
        if isinstance(plan.arrivals, Closed):
            streams = len(range(part, plan.arrivals.streams, parts))
            requests = len(range(part, plan.requests, parts))
            return await closed(requester, plan, streams, start, requests)
        return await opened(requester, plan, start, part, parts)
    finally:
        requester.close()


async def closed(
    requester: Requester, plan: Plan, streams: int, start: float, requests: int
) -> list[Sample]:
    """Keep `streams` requests under way."""
    samples: list[Sample] = []
    left = requests if plan.requests else -1

    async def stream() -> None:
        nonlocal left
        while left and perf_counter() < start + plan.seconds:
            left -= 1
            samples.append(await requester.request())

    await asyncio.sleep(start - perf_counter())
    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(stream())
    return samples


async def opened(
    requester: Requester, plan: Plan, start: float, part: int, parts: int
) -> list[Sample]:
    """Begin requests at their moments, whatever became of those before."""
    tasks: list[asyncio.Task[Sample]] = []
    async with asyncio.TaskGroup() as group:
        for n, (moment, tokens) in enumerate(arrivals(plan)):
            if n % parts != part:
                continue
            due = start + moment
            await asyncio.sleep(due - perf_counter())
            tasks.append(group.create_task(requester.request(due, tokens)))
    return [task.result() for task in tasks]
