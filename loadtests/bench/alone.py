"""What each part can take alone, as in Table 2 of the paper on Chat AI.

Beside each part's rate stands what it would be if the part had a processor for itself: its work by
the seconds of processor time of its own processes. On a small machine, where client, engine and
part share the processors, that is the number that tells.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Final

import msgspec

from headrace.protocol.names import Slug
from loadtests.bench import meter
from loadtests.bench.bus_edge import BusEdge, chat
from loadtests.bench.hops import stub
from loadtests.bench.machine import Machine, machine
from loadtests.bench.metered import metered
from loadtests.bench.models import FAST, NEAR, STUB, STUB_NEAR
from loadtests.bench.stage import Stage
from loadtests.load.plans import Closed, Plan

STREAMS: Final = 64
MANY_STREAMS: Final = 512
"""So many that hardly two frames of one of them come in one piece."""

TOKENS: Final = 30
MANY_FRAMES: Final = 500
"""Of an answer: below the window within which a worker need not wait for its client."""


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """One part. `unit` is what is counted; `cpu_us` is of each process for each of them.

    `per_core` is the rate at which the busiest of the part's `own` processes would fill a core.
    """

    part: str
    what: str
    unit: str
    per_second: float
    per_core: float
    own: list[str]
    cpu_us: dict[str, float]


class PartsAlone(msgspec.Struct, frozen=True, kw_only=True):
    """The result."""

    machine: Machine
    seconds: float
    parts: list[Alone]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured: who is asked, and whose time counts."""

    name: str
    what: str
    own: tuple[str, ...]
    model: str
    at: str = ""
    """Where HTTP is spoken; by default the queue is asked instead."""
    stub: bool = False
    frames: int = 1
    count_frames: bool = False
    streams: int = STREAMS


def parts(stage: Stage) -> list[Part]:
    """All of them. The workers must be there."""
    bridge = ("bridge", "sshd", "gate")
    return [
        Part(
            name="engine", what=f"{TOKENS} tokens, over its Unix socket",
            own=("engine-fast",), model=FAST.name, at=stage.engine_socket(FAST),
        ),
        Part(
            name="hub", what="publish, pull, one frame back, acknowledge",
            own=("hub",), model=STUB_NEAR, stub=True,
        ),
        Part(
            name="worker", what=f"{TOKENS} tokens, with its engine, beside the hub",
            own=("worker-near",), model=NEAR.name,
        ),
        Part(
            name="one SSH connection", what="requests of one frame, pulled through it",
            own=bridge, model=STUB, stub=True,
        ),
        Part(
            name="edge, requests", what="of one frame, from a worker beside the hub",
            own=("edge",), model=STUB_NEAR, at=stage.url, stub=True,
        ),
        *(
            Part(
                name=f"edge, frames of {streams} streams",
                what=f"prepared ones, {MANY_FRAMES} to an answer, in turns",
                own=("edge",), model=STUB_NEAR, at=stage.url, stub=True, frames=MANY_FRAMES,
                count_frames=True, streams=streams,
            )
            for streams in (STREAMS, MANY_STREAMS)
        ),
    ]  # fmt: skip


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """For how long each, and which: all if none is named."""

    seconds: float
    names: Sequence[str] = ()


async def run(stage: Stage, size: Size, keep: Callable[[PartsAlone], None]) -> PartsAlone:
    """Measure on this stage. Raises NotServing, RuntimeError."""
    result = PartsAlone(machine=machine(), seconds=size.seconds, parts=[])
    await stage.serve(FAST, NEAR)
    for part in parts(stage):
        if size.names and part.name not in size.names:
            continue
        found = await one(stage, part, size.seconds)
        result.parts.append(found)
        rate = f"{found.per_second:.0f} {found.unit}/s, {found.per_core:.0f} per core"
        print(f"    {found.part}: {rate}", flush=True)
        keep(result)
    return result


async def one(stage: Stage, part: Part, seconds: float) -> Alone:
    """Measure one part."""
    async with AsyncExitStack() as stack:
        if part.stub:
            near = part.model == STUB_NEAR
            await stack.enter_async_context(
                stub(stage, part.model, at_hub=near, frames=part.frames)
            )
        ask = by_http if part.at else by_bus
        rate, cpu = await ask(stage, part, seconds)
    return alone(part, rate, cpu)


def alone(part: Part, per_second: float, cpu_seconds: Mapping[str, float]) -> Alone:
    """What rate and processor time per request come to."""
    units = part.frames if part.count_frames else 1
    busiest = max(cpu_seconds.get(name, 0.0) for name in part.own) / units
    return Alone(
        part=part.name,
        what=part.what,
        unit="frames" if part.count_frames else "requests",
        per_second=per_second * units,
        per_core=1 / busiest if busiest else 0.0,
        own=list(part.own),
        cpu_us={name: each * 1e6 / units for name, each in cpu_seconds.items()},
    )


async def by_http(stage: Stage, part: Part, seconds: float) -> tuple[float, dict[str, float]]:
    """Requests per second, and seconds of processor time per request by process."""
    ours = part.at == stage.url
    plan = Plan(
        target=part.at, arrivals=Closed(part.streams), seconds=seconds, model=part.model,
        tokens=TOKENS, api_key=stage.key if ours else "", verify=not part.stub,
    )  # fmt: skip
    made = await metered(plan, 1, stage.pids())
    if set(made.summary.outcomes) != {"ok"}:
        raise RuntimeError(f"{part.name}: {made.summary.outcomes}")
    count = made.summary.requests
    cpu = {name: cost.cpu_seconds / count for name, cost in made.costs.items()}
    return made.summary.requests_per_second, cpu


async def by_bus(stage: Stage, part: Part, seconds: float) -> tuple[float, dict[str, float]]:
    """The same through the queue, by a client that does as an edge does."""
    async with BusEdge(stage) as edge:
        await edge.queue.ensure_consumers(Slug(part.model))
        pids = stage.pids()
        before, began = meter.look(pids), perf_counter()
        count = 0

        async def stream() -> None:
            nonlocal count
            while perf_counter() < began + seconds:
                count += 1
                await edge.ask(part.model, chat(part.model, count, TOKENS))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(part.streams):
                tasks.create_task(stream())
        elapsed = perf_counter() - began
        spent = meter.spent(before, meter.look(pids))
    return count / elapsed, {name: used / count for name, used in spent.items()}
