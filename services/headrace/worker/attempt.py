"""One attempt at one request: post it to the engine, send its answer back as frames."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import aiohttp

from headrace.protocol import codec, subjects
from headrace.protocol.endpoints import ENGINE_PATHS
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame, Head, Timings, Usage
from headrace.protocol.names import ProcessId, RequestId
from headrace.protocol.requests import Request
from headrace.runtime.bus import Bus, BusError
from headrace.runtime.logging import Logger
from headrace.worker import body, sse
from headrace.worker.batch import Batcher
from headrace.worker.client import EngineClient
from headrace.worker.metrics import Metrics
from headrace.worker.options import WorkerOptions
from headrace.worker.outbox import Outbox
from headrace.worker.replay import Replay

PIECE_BYTES: Final = 512 * 1024
"""A whole answer travels in frames of this size: far below the bus's limit, cheap to repeat."""

HIGH_WATER_BYTES: Final = 2 * 1024 * 1024
"""When so much waits to be sent, answers are read no faster than the bus takes them."""

ENGINE_FAILED: Final = "The model's engine failed before the answer was complete."


@dataclass(frozen=True)
class Shared:
    """What all attempts of a worker share."""

    worker: ProcessId
    options: WorkerOptions
    bus: Bus
    outbox: Outbox
    client: EngineClient
    replay: Replay
    metrics: Metrics
    log: Logger


class Attempt:
    """The work on one delivered request, in a task of its own."""

    def __init__(self, shared: Shared, request: Request, number: int) -> None:
        self.request = request
        self.number = number
        self.replies: dict[int, str] = {}
        """Where to acknowledge, by number in the stream: the newest delivery of each message.

        There is more than one message where an edge had to publish its request again.
        """
        self.outcome = ""
        """How it ended; empty where the whole worker was cancelled."""
        self.again = False
        """Whether the queue should give the request out again."""
        self._shared = shared
        self._subject = subjects.response(ProcessId(request.edge), RequestId(request.id))
        self._seq = 0
        self._bytes = 0
        self._began = 0.0
        self._first_byte = 0.0
        self._usage = Usage()
        self._stop: Fail | Code | None = None
        self._task: asyncio.Task[None] | None = None
        self._concluded = False

    def start(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Say that the request is accepted, and work on it in a task of its own."""
        self._began = time.monotonic()
        self._shared.replay.begin(self.request.id, self.request.edge, self.number)
        accepted = Accepted(
            self.number, self._next(), self._shared.worker, self._shared.options.cluster
        )
        self._emit(accepted)
        self._task = tasks.create_task(self._run(), name=f"request {self.request.id}")
        return self._task

    def cancel(self) -> None:
        """Nobody waits for the answer: the engine stops, and no frame follows."""
        self._end_early(Code.CANCELLED)

    def fail(self, code: Code, message: str) -> None:
        """The worker can't go on with it; another one may."""
        self._end_early(Fail(self.number, 0, code, message, retryable=True))

    def conclude(self) -> None:
        """Settle what is left. A task cancelled before its first step can't do so itself."""
        if self._concluded:
            return
        self._concluded = True
        if isinstance(self._stop, Fail) and not self.outcome:
            self._fail(self._stop.code, self._stop.message, retryable=self._stop.retryable)
        elif self._stop is not None and not self.outcome:
            self.outcome = str(self._stop)
        self._shared.replay.end(self.request.id, asyncio.get_running_loop().time())
        self._tell()

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self.request.deadline - time.time()):
                await self._serve()
        except asyncio.CancelledError:
            if self._stop is None:
                raise
        except HeadraceError as error:
            self._fail(error.code, error.message, retryable=error.retryable)
        except aiohttp.ClientError:  # before TimeoutError: some of these are both
            self._fail(Code.ENGINE_FAILED, ENGINE_FAILED, retryable=True)
        except TimeoutError:
            self._fail(Code.DEADLINE_EXCEEDED, "The answer took too long.", retryable=False)
        except OSError:
            self._fail(Code.ENGINE_FAILED, ENGINE_FAILED, retryable=True)
        except Exception as error:  # one request must not take the others along
            self._shared.log.error("attempt_crashed", request=self.request.id, exc_info=error)
            self._fail(Code.INTERNAL, "The worker failed on this request.", retryable=False)
        finally:
            self.conclude()

    async def _serve(self) -> None:
        request = self.request
        made = body.rewrite(
            request.body,
            name=self._shared.options.model_name,
            endpoint=request.endpoint,
            stream=request.stream,
        )
        async with self._shared.client.post(ENGINE_PATHS[request.endpoint], made.data) as answer:
            media = answer.headers.get("Content-Type", "application/json")
            if answer.status < 400 and media.startswith("text/event-stream"):
                self._emit(Head(self.number, self._next(), answer.status, media))
                await self._stream(answer, keep_usage=made.wants_usage)
            else:
                await self._whole(answer, media)
        self._end(answer.status)

    async def _stream(self, answer: aiohttp.ClientResponse, *, keep_usage: bool) -> None:
        splitter = sse.Splitter(self._shared.options.limits.event_bytes)
        usage = sse.UsageReader(keep=keep_usage)
        batcher = Batcher(self._shared.options.limits.batch_seconds, self._emit_chunk)
        try:
            while data := await answer.content.readany():
                events = splitter.feed(data)
                if not events:
                    continue
                done = sse.is_done(events)
                if passed := usage.read(events):
                    batcher.add(passed)
                if done:
                    batcher.flush()
                    self._usage = usage.usage
                    return
                if self._shared.outbox.size > HIGH_WATER_BYTES:
                    await self._let_the_bus_catch_up()
            batcher.flush()
        finally:
            batcher.drop()
        raise HeadraceError(Code.ENGINE_FAILED, ENGINE_FAILED)

    async def _whole(self, answer: aiohttp.ClientResponse, media: str) -> None:
        limit = self._shared.options.limits.answer_bytes
        data = bytearray()
        while piece := await answer.content.readany():
            if not data:
                self._first_byte = self._elapsed()
            data += piece
            if len(data) > limit:
                raise HeadraceError(Code.RESPONSE_TOO_LARGE, "The model's answer is too large.")
        if answer.status < 400:
            self._usage = sse.usage_of(bytes(data))
        self._emit(Head(self.number, self._next(), answer.status, media))
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            self._emit_chunk(bytes(view[start : start + PIECE_BYTES]))
            if self._shared.outbox.size > HIGH_WATER_BYTES:
                await self._let_the_bus_catch_up()

    async def _let_the_bus_catch_up(self) -> None:
        self._shared.outbox.flush()
        with suppress(BusError):  # what can't be sent is kept, and resumed
            await self._shared.bus.flush()

    def _emit_chunk(self, data: bytes) -> None:
        frame = codec.encode(Chunk(self.number, self._next(), data))
        if not self._first_byte:
            self._first_byte = self._elapsed()
            self._keep(frame)
            self._shared.outbox.now(self._subject, frame)
            return
        self._keep(frame)
        self._shared.outbox.soon(self._subject, frame)

    def _emit(self, frame: Frame) -> None:
        data = codec.encode(frame)
        self._keep(data)
        self._shared.outbox.now(self._subject, data)

    def _keep(self, frame: bytes) -> None:
        self._bytes += len(frame)
        self._shared.replay.add(self.request.id, frame)

    def _end(self, status: int) -> None:
        timings = Timings(self._first_byte, self._elapsed())
        self._emit(End(self.number, self._next(), self._usage, timings))
        self.outcome = "ok" if status < 400 else "engine_refused"

    def _fail(self, code: Code, message: str, *, retryable: bool) -> None:
        self._emit(Fail(self.number, self._next(), code, message, retryable))
        self.outcome = str(code)
        self.again = retryable

    def _end_early(self, why: Fail | Code) -> None:
        if self._stop is None and self._task is not None and not self._task.done():
            self._stop = why
            self._task.cancel()

    def _tell(self) -> None:
        metrics = self._shared.metrics
        metrics.ended(self.outcome or "aborted")
        metrics.frames.inc(self._seq)
        metrics.frame_bytes.inc(self._bytes)
        metrics.prompt_tokens.inc(self._usage.prompt_tokens)
        metrics.completion_tokens.inc(self._usage.completion_tokens)
        if self._first_byte:
            metrics.first_byte.observe(self._first_byte)
        self._shared.log.info(
            "attempt_ended",
            request=self.request.id,
            attempt=self.number,
            endpoint=self.request.endpoint,
            outcome=self.outcome or "aborted",
            seconds=round(self._elapsed(), 4),
            first_byte=round(self._first_byte, 4),
            frames=self._seq,
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens,
        )

    def _next(self) -> int:
        seq = self._seq
        self._seq += 1
        return seq

    def _elapsed(self) -> float:
        return time.monotonic() - self._began
