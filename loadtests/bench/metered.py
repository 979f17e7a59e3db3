"""A load, and what it cost every process that took part."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from loadtests.bench import meter
from loadtests.load.fleet import measure
from loadtests.load.plans import Plan
from loadtests.load.samples import Summary

LOOK_SECONDS: Final = 0.5


class Cost(msgspec.Struct, frozen=True):
    """Of a process and what it starts: processor time of the load, and the most memory seen.

    Memory that processes share counts once for each of them.
    """

    cpu_seconds: float
    rss_bytes: int


class Metered(msgspec.Struct, frozen=True):
    """A load's summary, and costs by process."""

    summary: Summary
    costs: dict[str, Cost]


async def metered(plan: Plan, processes: int, roots: Mapping[str, int]) -> Metered:
    """Make a load with so many generator processes, and look at `roots` meanwhile."""
    before = meter.look(roots)
    most = {name: usage.rss_bytes for name, usage in before.items()}
    watching = asyncio.create_task(_watch(roots, most))
    try:
        summary = await measure(plan, processes)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    spent = meter.spent(before, meter.look(roots))
    return Metered(summary, {name: Cost(spent[name], most[name]) for name in spent})


async def _watch(roots: Mapping[str, int], most: dict[str, int]) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for name, usage in meter.look(roots).items():
            most[name] = max(most[name], usage.rss_bytes)
