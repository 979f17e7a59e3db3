"""Whether one client that hardly reads slows down the others.

A hundred streams are measured alone, and beside a client that reads a byte a second, in turns. The
slow one is of two kinds. One asks the worker of the others: its tokens come as slowly as theirs,
and pile up between the edge and its socket. The other asks a model that makes tokens as fast as it
can: everything on its way is full up to the bound, back to the engine.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from statistics import median

import msgspec

from loadtests.bench.crowd import message
from loadtests.bench.machine import Machine, machine
from loadtests.bench.models import FAST, STEADY
from loadtests.bench.stage import Stage
from loadtests.load.addresses import parse
from loadtests.load.fleet import measure
from loadtests.load.plans import Closed, Plan
from loadtests.load.samples import Summary

AIM = 1.1
RECEIVE_BYTES = 4096
"""Of the slow client's socket: what the kernel would take for it helps the server."""

KINDS = {"alone": "", "same worker": STEADY.name, "full speed": FAST.name}
"""Which model the slow client asks."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """The gaps between tokens of the hundred streams, in ms: medians over the rounds."""

    gap_p50_ms: float
    gap_p99_ms: float
    first_token_p50_ms: float
    outcomes: dict[str, int]
    gaps_p50_ms: list[float]


class SlowReader(msgspec.Struct, frozen=True, kw_only=True):
    """The result. `ratio` is that of the median gaps, the worse of the two kinds."""

    machine: Machine
    streams: int
    tokens: int
    delay_ms: float
    rounds: int
    aim: float
    ratio: float
    ratio_p99: float
    kinds: dict[str, Kind]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much to measure."""

    rounds: int = 5
    streams: int = 100
    tokens: int = 200
    lead_seconds: float = 3.0
    """The slow one's head start: everything before its socket is full by then."""


async def run(stage: Stage, size: Size) -> SlowReader:
    """Measure on this stage. Raises NotServing, RuntimeError."""
    on = machine()
    summaries: dict[str, list[Summary]] = {kind: [] for kind in KINDS}
    await stage.serve(STEADY, FAST)
    plan = Plan(
        target=stage.url, api_key=stage.key, model=STEADY.name, arrivals=Closed(size.streams),
        requests=size.streams, seconds=3600, tokens=size.tokens,
    )  # fmt: skip
    await measure(msgspec.structs.replace(plan, tokens=10), 1)  # unmeasured: the first use
    for n in range(size.rounds):
        # Turned: no kind always comes after the same other one.
        order = list(KINDS)[n % 3 :] + list(KINDS)[: n % 3]
        for kind in order:
            async with slow_client(stage, KINDS[kind], size.lead_seconds):
                summaries[kind].append(await measure(plan, 1))
    return result(on, size, summaries)


def result(on: Machine, size: Size, summaries: Mapping[str, list[Summary]]) -> SlowReader:
    """What the rounds come to."""
    kinds = {kind: _kind(each) for kind, each in summaries.items()}
    alone = kinds["alone"]
    beside = [each for kind, each in kinds.items() if kind != "alone"]
    return SlowReader(
        machine=on,
        streams=size.streams,
        tokens=size.tokens,
        delay_ms=STEADY.delay_ms,
        rounds=size.rounds,
        aim=AIM,
        ratio=max(each.gap_p50_ms / alone.gap_p50_ms for each in beside),
        ratio_p99=max(each.gap_p99_ms / alone.gap_p99_ms for each in beside),
        kinds=kinds,
    )


def _kind(rounds: list[Summary]) -> Kind:
    outcomes: dict[str, int] = {}
    for each in rounds:
        for outcome, count in each.outcomes.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return Kind(
        gap_p50_ms=median(each.gap_ms.p50 for each in rounds),
        gap_p99_ms=median(each.gap_ms.p99 for each in rounds),
        first_token_p50_ms=median(each.first_token_ms.p50 for each in rounds),
        outcomes=outcomes,
        gaps_p50_ms=[each.gap_ms.p50 for each in rounds],
    )


@asynccontextmanager
async def slow_client(stage: Stage, model: str, lead: float) -> AsyncIterator[None]:
    """A client of `model` that reads a byte a second; nobody where there is no model."""
    if not model:
        # As long as with it: both have had the same rest.
        await asyncio.sleep(lead)
        yield
        return
    address = parse(stage.url)
    asked = message(address, stage.key, model, "a long story", 100_000)
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        client.setblocking(False)
        await loop.sock_connect(client, (address.host, address.port))
        await loop.sock_sendall(client, asked)
        reading = asyncio.create_task(_read_slowly(client))
        await asyncio.sleep(lead)
        try:
            yield
            if reading.done():
                reading.result()  # it was cut off: then nothing was measured
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _read_slowly(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(client, 1):  # noqa: ASYNC110  # it is the pace that counts
        await asyncio.sleep(1.0)
    raise RuntimeError("the slow client was cut off")
