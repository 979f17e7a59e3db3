"""Growth with the depth of the queue: requests put into the stream directly, without clients.

At each depth: the time from publishing a request behind all that wait to the queue's word, the time
to take the one at the front, and the first token of another model's request on the whole path.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final

from headrace.protocol import codec, names, subjects
from headrace.protocol.names import Slug
from headrace.runtime import logging
from headrace.runtime.nats.bus import Bus, BusOptions, Message
from headrace.runtime.nats.jetstream import ACK, JetStream
from loadtests.bench.bus_edge import DEADLINE_SECONDS, LANE, BusEdge, chat
from loadtests.bench.models import ASLEEP, FAST
from loadtests.bench.points import Effort, Point, point
from loadtests.bench.stage import Stage
from loadtests.load.samples import spread

MODEL: Final = Slug(ASLEEP)
AT_ONCE: Final = 200
PULL_SECONDS: Final = 5.0


async def run(stage: Stage, depths: Sequence[int], effort: Effort) -> list[Point]:
    """A point at each depth, the first one being of an empty queue."""
    await stage.serve(FAST)
    # At the limit of a hundred thousand, the requests that are measured would be refused.
    enough = str(max(depths) + 10_000)
    limits = ("MAX_REQUESTS", "MAX_REQUESTS_PER_LANE")
    await stage.restart_edge(
        FAST.name, **{f"HEADRACE_EDGE__QUEUE__{each}": enough for each in limits}
    )
    points = []
    async with BusEdge(stage) as edge, taker(stage) as take:
        await edge.queue.ensure_consumers(MODEL)
        held = 0
        for depth in (0, *depths):
            await fill(edge, depth - held)
            held = depth
            published = [await publish(edge) for _ in range(effort.turns)]
            # The ones just published are taken from the front, so that the depth stays.
            taken = [await take() for _ in range(effort.turns)]
            more = {
                "publish_p50": spread(published, 1e3).p50,
                "publish_p99": spread(published, 1e3).p99,
                "take_p50": spread(taken, 1e3).p50,
                "take_p99": spread(taken, 1e3).p99,
            }
            points.append(await point(stage, depth, effort, more=more))
    return points


async def fill(edge: BusEdge, count: int) -> None:
    """Put so many more requests into the queue."""
    numbers = iter(range(count))

    async def some() -> None:
        for _ in numbers:
            await publish(edge)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(some())


async def publish(edge: BusEdge) -> float:
    """Publish one more; the seconds until the queue has it."""
    request = edge.envelope(ASLEEP, chat(ASLEEP, 0, 30))
    data = codec.encode(request)
    began = perf_counter()
    await edge.queue.publish(
        MODEL, LANE, edge.id, data, id=request.id, ttl_seconds=DEADLINE_SECONDS
    )
    return perf_counter() - began


@asynccontextmanager
async def taker(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Takes the request at the front and is done with it; gives the seconds until it has it."""
    id = names.new_process_id()
    bus = Bus(logging.setup("bench", "error"), name="taker", inbox=subjects.worker_inbox(id))
    await bus.connect(BusOptions(url=stage.hub_url, nkey_file=stage.hub_worker_seed))
    jetstream = JetStream(bus, subjects.DOMAIN)
    inbox = f"{bus.inbox}.pull"
    came: asyncio.Queue[tuple[float, Message]] = asyncio.Queue()
    await bus.subscribe(inbox, lambda message: came.put_nowait((perf_counter(), message)))

    async def take() -> float:
        began = perf_counter()
        jetstream.pull(MODEL, LANE, reply=inbox, batch=1, expires=PULL_SECONDS)
        moment, message = await came.get()
        if not message.data:
            raise RuntimeError(f"nothing to take: {message.headers}")
        bus.send(message.reply, ACK)
        return moment - began

    try:
        yield take
    finally:
        await bus.close()
