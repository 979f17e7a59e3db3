"""An edge without HTTP: requests into the queue, frames back, and when the first token came.

It shows what the path costs behind the edge. It does on the bus what an edge does, and no more.
"""

import asyncio
import time
from time import perf_counter
from typing import Final, Self

import msgspec

from headrace.edge.dispatch.edge_peers import BEAT_SECONDS
from headrace.protocol import codec, names, subjects
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.frames import Chunk, End, Fail, Frame
from headrace.protocol.names import Slug
from headrace.protocol.requests import VERSION, Request
from headrace.runtime import logging
from headrace.runtime.nats.bus import Bus, BusOptions, Message
from headrace.runtime.nats.jetstream import JetStream
from loadtests.bench.stage import Stage

DEADLINE_SECONDS: Final = 600.0
LANE: Final = "normal"

_CONTENT: Final = b'"content":"'
_NOTHING: Final = b'"content":""'


class Asked(msgspec.Struct):
    """A request under way. Moments are of `perf_counter`, 0 for what has not come."""

    done: asyncio.Future[None]
    acknowledged: float = 0.0
    first: float = 0.0
    frames: int = 0
    error: str = ""


class BusEdge:
    """One edge's place on the hub."""

    def __init__(self, stage: Stage) -> None:
        self.id = names.new_process_id()
        self.bus = Bus(
            logging.setup("bench", "error"), name="bench-edge", inbox=subjects.edge_inbox(self.id)
        )
        self.queue = JetStream(self.bus)
        self._options = BusOptions(url=stage.hub_url, nkey_file=stage.edge_seed)
        self._asked: dict[str, Asked] = {}
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.bus.connect(self._options)
        await self.bus.subscribe(subjects.responses(self.id), self._on_message)
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._beating is not None:
            self._beating.cancel()
        await self.queue.purge(self.id)
        await self.bus.close()

    def envelope(self, model: str, body: bytes) -> Request:
        """A streamed chat request as an edge publishes it."""
        deadline = time.time() + DEADLINE_SECONDS
        return Request(
            VERSION, names.new_request_id(), self.id, Endpoint.CHAT, model, True, body, deadline
        )

    async def ask(self, model: str, body: bytes) -> tuple[float, float, Asked]:
        """Ask and wait for the end: seconds to the queue's word and to the first token.

        Raises RuntimeError for a request that fails, HeadraceError for one that is not queued.
        """
        request = self.envelope(model, body)
        asked = Asked(asyncio.get_running_loop().create_future())
        self._asked[request.id] = asked
        began = perf_counter()
        await self.queue.publish(
            Slug(model), LANE, self.id, codec.encode(request), id=request.id,
            ttl_seconds=DEADLINE_SECONDS,
        )  # fmt: skip
        asked.acknowledged = perf_counter()
        await asked.done
        del self._asked[request.id]
        if asked.error:
            raise RuntimeError(f"a request failed: {asked.error}")
        return asked.acknowledged - began, asked.first - began, asked

    def _on_message(self, message: Message) -> None:
        for request, frame in codec.decode_frames(message.subject, message.data):
            if request in self._asked:
                self._on_frame(self._asked[request], frame)

    def _on_frame(self, asked: Asked, frame: Frame) -> None:
        asked.frames += 1
        if isinstance(frame, Chunk):
            # The first event holds the role alone.
            if not asked.first and frame.data.count(_CONTENT) > frame.data.count(_NOTHING):
                asked.first = perf_counter()
        elif isinstance(frame, End | Fail):
            asked.error = frame.message if isinstance(frame, Fail) else ""
            if not asked.done.done():
                asked.done.set_result(None)

    async def _beat(self) -> None:
        """Live edges say so, or the others clear away what they have queued."""
        while True:
            self.bus.send(subjects.edge(self.id), b"")
            await asyncio.sleep(BEAT_SECONDS)


def chat(model: str, number: int, tokens: int) -> bytes:
    """The body of a request, as the load generator's are."""
    messages = [{"role": "user", "content": f"bus {number} ".ljust(32, "x")}]
    asked = {"model": model, "messages": messages, "max_tokens": tokens, "stream": True}
    return msgspec.json.encode(asked)
