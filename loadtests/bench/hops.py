"""Where the time to the first token goes: the path, one hop longer each time.

As in Table 1 of the paper on Chat AI, what a hop takes is the difference to the path without it.
One request is asked at a time, on each path in turn.

| path | what is on it |
|---|---|
| engine | HTTP on the engine's Unix socket, as its worker asks it |
| hub | a bus client that publishes, and a worker without an engine that pulls and answers |
| worker | the same client, and a worker beside the hub with its engine |
| SSH | the same client, and a worker behind bridge, SSH, gate and leaf |
| edge | HTTP to the edge: the whole path |
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from headrace.protocol.names import Slug
from loadtests.bench.bus_edge import BusEdge, chat
from loadtests.bench.machine import Machine, machine
from loadtests.bench.models import FAST, NEAR, STUB_NEAR
from loadtests.bench.parts import Running
from loadtests.bench.stage import Stage
from loadtests.load.plans import Closed, Plan
from loadtests.load.requests import Requester
from loadtests.load.samples import Spread, spread

TOKENS: Final = 30
PATHS: Final = ("engine", "hub", "worker", "SSH", "edge")

Ask = Callable[[int], Awaitable[float]]
"""Ask once, with this number in the prompt; the seconds to the first token."""


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """First-token times of a path in ms, and what its last hop adds to the median.

    The hub alone adds what it takes; the worker what is left of its path without hub and engine.
    """

    path: str
    first_token: Spread
    added: float
    share: float


class Hops(msgspec.Struct, frozen=True, kw_only=True):
    """The result: the paths from the shortest to the whole one."""

    machine: Machine
    turns: int
    tokens: int
    hops: list[Hop]


async def run(stage: Stage, turns: int) -> Hops:
    """Measure on this stage. Raises NotServing, RuntimeError."""
    on = machine()
    await stage.serve(FAST, NEAR)
    load = Plan(target="", arrivals=Closed(1), seconds=3600, tokens=TOKENS, model=FAST.name)
    near = Requester(msgspec.structs.replace(load, target=stage.engine_socket(FAST)))
    whole = Requester(msgspec.structs.replace(load, target=stage.url, api_key=stage.key), part=1)
    async with BusEdge(stage) as edge, stub(stage, STUB_NEAR, at_hub=True):
        for model in (FAST.name, NEAR.name, STUB_NEAR):
            await edge.queue.ensure_consumers(Slug(model))
        ways: dict[str, Ask] = {
            "engine": _http(near),
            "hub": _bus(edge, STUB_NEAR),
            "worker": _bus(edge, NEAR.name),
            "SSH": _bus(edge, FAST.name),
            "edge": _http(whole),
        }
        times = await in_turns(ways, turns)
    for requester in (near, whole):
        requester.close()
    return Hops(machine=on, turns=turns, tokens=TOKENS, hops=shares(times))


async def in_turns(ways: dict[str, Ask], turns: int) -> dict[str, list[float]]:
    """Ask each way once a turn; the first turns are not counted."""
    times: dict[str, list[float]] = {path: [] for path in ways}
    unmeasured = max(3, turns // 10)
    for turn in range(unmeasured + turns):
        for path, ask in ways.items():
            first = await ask(turn)
            if turn >= unmeasured:
                times[path].append(first)
    return times


def shares(times: dict[str, list[float]]) -> list[Hop]:
    """What each hop adds, from the times of `PATHS`."""
    spreads = {path: spread(each, 1e3) for path, each in times.items()}
    medians = {path: each.p50 for path, each in spreads.items()}
    added = {
        "engine": medians["engine"],
        "hub": medians["hub"],
        "worker": medians["worker"] - medians["hub"] - medians["engine"],
        "SSH": medians["SSH"] - medians["worker"],
        "edge": medians["edge"] - medians["SSH"],
    }
    return [
        Hop(
            path=path,
            first_token=spreads[path],
            added=added[path],
            share=added[path] / medians["edge"],
        )
        for path in PATHS
    ]


@asynccontextmanager
async def stub(
    stage: Stage, model: str, *, at_hub: bool = False, workers: int = 1, frames: int = 1
) -> AsyncIterator[int]:
    """Workers without an engine, in a process of their own, whose id this is."""
    url, seed = (
        (stage.hub_url, stage.hub_worker_seed) if at_hub else (stage.leaf_url, stage.worker_seed)
    )
    argv = [sys.executable, "-m", "loadtests.bench.stub_worker", "--url", url, "--seed", seed]
    argv += ["--model", model, "--cluster", stage.cluster]
    argv += ["--workers", str(workers), "--frames", str(frames)]
    with TemporaryDirectory(prefix="hr-stub-") as folder:
        log = Path(folder) / "log"
        running = Running("stub", argv, {}, log)

        async def ready() -> bool:
            return b"ready" in await asyncio.to_thread(log.read_bytes)

        try:
            await running.ready(ready)
            await stage.served(model)
            yield running.pid
        finally:
            await running.end()


def _http(requester: Requester) -> Ask:
    async def ask(_: int) -> float:
        sample = await requester.request()
        if sample.outcome != "ok":
            raise RuntimeError(f"a request failed: {sample.outcome}")
        return sample.first_token

    return ask


def _bus(edge: BusEdge, model: str) -> Ask:
    async def ask(number: int) -> float:
        _, first, _ = await edge.ask(model, chat(model, number, TOKENS))
        return first

    return ask
