"""The parts of a run, one after the other; one that fails does not stop the others."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import msgspec

from loadtests.bench import (
    alone,
    ceilings,
    growth,
    hops,
    loads,
    memory,
    open_loop,
    report,
    side_by_side,
    slow_reader,
    stages,
)
from loadtests.bench.machine import keep, machine
from loadtests.bench.results import FILES, Done, Run
from loadtests.bench.stage import Stage

Keep = Callable[[Any], None]
"""Writes what a part has found so far."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything. With `shared` all parts run on one stage, which saves its starts."""

    name: str
    ceilings: float
    side_by_side: loads.Size
    hops: int
    alone: alone.Size
    open_loop: open_loop.Size
    memory: memory.Size
    slow_reader: slow_reader.Size
    growth: growth.Size
    shared: bool


FULL: Final = Size(
    name="full",
    ceilings=4.0,
    side_by_side=loads.FULL,
    hops=400,
    alone=alone.Size(seconds=4.0),
    open_loop=open_loop.Size(seconds=10.0),
    memory=memory.Size(),
    slow_reader=slow_reader.Size(),
    growth=growth.Size(),
    shared=False,
)
QUICK: Final = Size(
    name="quick",
    ceilings=1.0,
    side_by_side=loads.QUICK,
    hops=50,
    alone=alone.Size(seconds=1.0),
    open_loop=open_loop.Size(seconds=2.0),
    memory=memory.Size(waiting=1000, streams=100, tokens=40),
    slow_reader=slow_reader.Size(rounds=1, tokens=100),
    growth=growth.QUICK,
    shared=True,
)
SMOKE: Final = Size(
    name="smoke",
    ceilings=0.3,
    side_by_side=loads.SMOKE,
    hops=5,
    alone=alone.Size(seconds=0.3, names=("hub", "edge, frames of 64 streams")),
    open_loop=open_loop.Size(seconds=0.3, most=1),
    memory=memory.Size(waiting=20, streams=5, tokens=10),
    slow_reader=slow_reader.Size(rounds=1, streams=5, tokens=10, lead_seconds=0.3),
    growth=growth.SMOKE,
    shared=True,
)


async def run(size: Size, only: set[str], folder: Path, traces: Path) -> list[str]:
    """Run the parts in `only`, or all; the names of those that failed."""
    parts: dict[str, Callable[[Stage, Keep], Awaitable[Any]]] = {
        "ceilings": lambda stage, _: ceilings.run(stage, size.ceilings),
        "side_by_side": lambda stage, kept: side_by_side.run(stage, size.side_by_side, kept),
        "hops": lambda stage, _: hops.run(stage, size.hops),
        "alone": lambda stage, kept: alone.run(stage, size.alone, kept),
        "open_loop": lambda stage, _: open_loop.run(stage, size.open_loop, traces),
        "memory": lambda stage, _: memory.run(stage, size.memory),
        "slow_reader": lambda stage, _: slow_reader.run(stage, size.slow_reader),
        "growth": lambda stage, kept: growth.run(stage, size.growth, kept),
    }
    begun = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    done = Run(machine=machine(), size=size.name, begun=begun, parts={})
    async with _shared(size) as shared:
        for name, part in parts.items():
            if only and name not in only:
                continue
            path = folder / FILES[name]
            path.unlink(missing_ok=True)  # what an earlier run found is none of this one's
            print(f"{time.strftime('%H:%M:%S')} {name.replace('_', ' ')}", flush=True)
            began = perf_counter()
            failure = await _one(part, shared, partial(_keep, path))
            done.parts[name] = Done(seconds=round(perf_counter() - began, 1), failure=failure)
            keep(done, folder / FILES["run"])
            await asyncio.to_thread(partial(report.write, folder, draw=False))
    return [name for name, each in done.parts.items() if each.failure]


async def _one(
    part: Callable[[Stage, Keep], Awaitable[Any]], shared: Stage | None, kept: Keep
) -> str:
    """Run one part and keep what it finds; why it failed, or nothing."""
    try:
        async with nullcontext(shared) if shared else stages.opened() as stage:
            kept(await part(stage, kept))
    except Exception as error:  # noqa: BLE001  # whatever it is, the other parts go on
        traceback.print_exc()
        return (str(error) or type(error).__name__).splitlines()[0]
    return ""


def _keep(path: Path, found: Any) -> None:
    keep(found, path)


@asynccontextmanager
async def _shared(size: Size) -> AsyncIterator[Stage | None]:
    if not size.shared:
        yield None
        return
    async with stages.opened() as stage:
        yield stage
