"""Workers without an engine: real pulls and heartbeats, and answers made beforehand.

``python -m loadtests.bench.stub_worker --url nats://... --seed FILE --model MODEL`` is one worker
that answers each request at once with so many frames; ``--workers 200`` are as many, each with a
connection of its own. The first line of output says that they are ready.
"""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from typing import Final

import uvloop

from headrace.protocol import codec, names, subjects
from headrace.protocol.frames import Accepted, Chunk, End, Frame, Head, Timings, Usage
from headrace.protocol.names import ProcessId, RequestId, Slug
from headrace.protocol.requests import VERSION, Request
from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.runtime import logging
from headrace.runtime.engine import Lanes
from headrace.runtime.nats.bus import Bus, BusOptions, Message
from headrace.runtime.nats.jetstream import ACK, JetStream, delivery_of
from headrace.worker.heartbeat import BEAT_SECONDS
from headrace.worker.queue.pull_scheduler import PullScheduler
from headrace.worker.service import PUMP_SECONDS
from loadtests.sim.bodies import Task
from loadtests.sim.events import Events
from loadtests.words import Prompt

TURN_FRAMES: Final = 1
"""Frames of one answer before the next one's: as with an engine, they come interleaved."""


def events(model: str, count: int) -> list[bytes]:
    """The events of an answer of `count` tokens, as a worker gets them from an engine."""
    task = Task(
        chat=True, prompt=Prompt(bytes(16), 16), count=count, finish="length", stream=True,
        usage=False, ids=False, id="chatcmpl-0123456789abcdef", created=1,
    )  # fmt: skip
    made = Events(task, model)
    chunks = [made.first() + made.token(), *(made.token() for _ in range(count - 1))]
    return [b"".join(_unchunked(chunk)) for chunk in chunks]


def _unchunked(data: bytes) -> list[bytes]:
    """The content of HTTP chunks."""
    found = []
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        found.append(rest[:length])
        data = rest[length + 2 :]
    return found


class StubWorker:
    """One of them."""

    def __init__(self, bus: Bus, id: ProcessId, model: Slug, cluster: str, answer: int) -> None:
        self._bus = bus
        self._id = id
        self._model = model
        self._cluster = cluster
        self._events = events(model, answer)
        self._jetstream = JetStream(bus, subjects.DOMAIN)
        self._slots = 256
        self._puller = PullScheduler(self._slots, Lanes().weights)
        self._inbox = f"{bus.inbox}.pull"
        self._loop = asyncio.get_running_loop()
        self._answering: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        await self._bus.subscribe(f"{self._inbox}.>", self._on_message)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump())
            tasks.create_task(self._beat())

    async def _pump(self) -> None:
        while True:
            self._pull()
            await asyncio.sleep(PUMP_SECONDS)

    async def _beat(self) -> None:
        cluster = names.slug(self._cluster)
        subject = subjects.state(cluster, self._model, self._id)
        while True:
            state = WorkerState(
                VERSION, self._cluster, self._model, self._id, WorkerPhase.READY, self._slots, 0
            )
            self._bus.send(subject, codec.encode(state))
            await asyncio.sleep(BEAT_SECONDS)

    def _pull(self) -> None:
        for pull in self._puller.plan(len(self._answering), self._loop.time()):
            reply = f"{self._inbox}.{pull.lane}.{pull.number}"
            self._jetstream.pull(
                self._model, pull.lane, reply=reply, batch=pull.batch, expires=pull.expires
            )

    def _on_message(self, message: Message) -> None:
        status = (message.headers or {}).get("Status") if not message.data else None
        now = self._loop.time()
        if status is not None:
            _, lane, number = message.subject.rsplit(".", 2)
            self._puller.settled(int(number), lane, status, now)
        else:
            delivery = delivery_of(message.reply)
            self._puller.delivered(subjects.request_lane(message.subject), delivery.pending, now)
            request = codec.decode_request(message.data)
            answering = self._loop.create_task(
                self._answer(request, request.attempt + delivery.delivered, message.reply)
            )
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)
        self._pull()

    async def _answer(self, request: Request, attempt: int, reply: str) -> None:
        subject = subjects.response(ProcessId(request.edge), RequestId(request.id))
        frames: list[Frame] = [
            Accepted(attempt, 0, self._id, self._cluster),
            Head(attempt, 1, 200, "text/event-stream; charset=utf-8"),
            *(Chunk(attempt, seq, data) for seq, data in enumerate(self._events, 2)),
        ]
        count = len(self._events)
        frames.append(End(attempt, count + 2, Usage(16, count), Timings(0.0, 0.0)))
        for n, frame in enumerate(frames, 1):
            self._bus.send(subject, codec.encode(frame))
            if n % TURN_FRAMES == 0:
                await asyncio.sleep(0)
            if self._bus.waiting > 1 << 20:
                await self._bus.flush()
        self._bus.send(reply, ACK)


async def serve(given: argparse.Namespace) -> None:
    """Work until a signal, which may come before the hub has been reached."""
    serving = asyncio.current_task()
    assert serving is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    log = logging.setup("stub", "error")
    buses = []
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(given.workers):
                id = names.new_process_id()
                bus = Bus(log, name=f"stub-{id}", inbox=subjects.worker_inbox(id))
                await bus.connect(BusOptions(url=given.url, nkey_file=given.seed))
                buses.append(bus)
                worker = StubWorker(bus, id, Slug(given.model), given.cluster, given.frames)
                tasks.create_task(worker.run())
            print("ready", flush=True)
    except asyncio.CancelledError:
        for bus in buses:
            await bus.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Work as the command line says."""
    parser = argparse.ArgumentParser(prog="stub_worker", description=__doc__.split("\n")[0])
    for name in ("url", "seed", "model", "cluster"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--frames", type=int, default=1, help="chunks of an answer")
    uvloop.run(serve(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
