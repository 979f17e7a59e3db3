"""What one more request costs in memory: while it waits, and while it streams.

Each is the difference of a process's resident memory with many requests and with none, by the
number of requests. Before "none" a few requests have gone through, so that what is loaded on the
first use does not count.
"""

import asyncio
from time import perf_counter

import msgspec

from loadtests.bench import meter
from loadtests.bench.crowd import Crowd, message
from loadtests.bench.machine import Machine, machine
from loadtests.bench.models import ASLEEP, SLOW
from loadtests.bench.stage import Stage
from loadtests.load.addresses import parse
from loadtests.load.fleet import measure
from loadtests.load.loops import closed
from loadtests.load.plans import Closed, Plan
from loadtests.load.requests import Requester

PROMPT_BYTES = 1000
"""Of each request: the edge keeps the body for as long as it may have to send it again."""

WARM_UP = 20
HELD_SECONDS = 60.0


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much to measure."""

    waiting: int = 5000
    streams: int = 500
    tokens: int = 200


class Streaming(msgspec.Struct, frozen=True, kw_only=True):
    """KiB per streaming request of one process, when each had got so many tokens."""

    tokens: int
    edge_kib: float
    worker_kib: float


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The result. `waiting_kib` is of the edge; the hub's and the worker's are beside it."""

    machine: Machine
    prompt_bytes: int
    waiting: int
    waiting_kib: float
    waiting_hub_kib: float
    streams: int
    streaming: list[Streaming]
    outcomes: dict[str, int]


async def run(stage: Stage, size: Size) -> Memory:
    """Measure on this stage, whose edge it starts anew. Raises NotServing, TimeoutError."""
    on = machine()
    await stage.serve(SLOW)
    await stage.restart_edge(SLOW.name)
    await warm_up(stage)
    edge, hub = await waiting(stage, size.waiting)
    # Freed memory is not always given back: the streams get a fresh edge.
    await stage.restart_edge(SLOW.name)
    await warm_up(stage)
    streaming, outcomes = await streams(stage, size)
    return Memory(
        machine=on,
        prompt_bytes=PROMPT_BYTES,
        waiting=size.waiting,
        waiting_kib=edge,
        waiting_hub_kib=hub,
        streams=size.streams,
        streaming=streaming,
        outcomes=outcomes,
    )


async def warm_up(stage: Stage) -> None:
    """Send a few requests, unmeasured."""
    plan = Plan(
        target=stage.url, api_key=stage.key, model=SLOW.name, arrivals=Closed(4),
        requests=WARM_UP, seconds=3600, tokens=2,
    )  # fmt: skip
    requester = Requester(plan)
    await closed(requester, plan, 4, perf_counter(), WARM_UP)
    requester.close()


async def waiting(stage: Stage, count: int) -> tuple[float, float]:
    """KiB per request that waits for a model without a worker: of the edge, of the hub."""
    address = parse(stage.url)
    pids = (stage.pid("edge"), stage.pid("hub"))
    before = [meter.rss(pid) for pid in pids]
    crowd = Crowd(address, message(address, stage.key, ASLEEP, "x" * PROMPT_BYTES, 30))
    try:
        await crowd.grow(count)
        await crowd.held(HELD_SECONDS)
        if refused := crowd.refused():
            raise RuntimeError(f"{refused} of {count} were not let wait")
        after = [meter.rss(pid) for pid in pids]
    finally:
        crowd.close()
    edge, hub = ((now - then) / 1024 / count for now, then in zip(after, before, strict=True))
    return edge, hub


async def streams(stage: Stage, size: Size) -> tuple[list[Streaming], dict[str, int]]:
    """Memory while so many stream, at a quarter of their tokens and near the end."""
    plan = Plan(
        target=stage.url,
        api_key=stage.key,
        model=SLOW.name,
        arrivals=Closed(size.streams),
        requests=size.streams,
        seconds=3600,
        tokens=size.tokens,
        prompt_bytes=PROMPT_BYTES,
    )
    pids = (stage.pid("edge"), stage.pid(f"worker-{SLOW.name}"))
    before = [meter.rss(pid) for pid in pids]
    begun: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    load = asyncio.create_task(measure(plan, 1, begun))
    began = await begun
    found = []
    for tokens in (size.tokens // 4, size.tokens * 9 // 10):
        await asyncio.sleep(began + tokens * SLOW.delay_ms / 1000 - perf_counter())
        edge, worker = (
            (meter.rss(pid) - then) / 1024 / size.streams
            for pid, then in zip(pids, before, strict=True)
        )
        found.append(Streaming(tokens=tokens, edge_kib=edge, worker_kib=worker))
    return found, (await load).outcomes
