"""One attempt at one request: post it to the engine, send its answer back as frames."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from headrace.protocol import codec
from headrace.protocol.control import WINDOW_BYTES
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame, Head, Timings, Usage
from headrace.protocol.names import ProcessId
from headrace.protocol.requests import Request
from headrace.runtime.logging import Logger
from headrace.runtime.nats.bus import Bus, BusError
from headrace.worker.engine.backend import Backend
from headrace.worker.gpu_time import GpuTime
from headrace.worker.http_client import EngineClient
from headrace.worker.metrics import WorkerMetrics
from headrace.worker.options import CommonOptions
from headrace.worker.queue import frame_sender
from headrace.worker.queue.frame_sender import FrameSender
from headrace.worker.queue.retransmit_buffer import RetransmitBuffer
from headrace.worker.resume.planner import EngineCall, check_status
from headrace.worker.stream.engine_stream import EngineStream

HIGH_WATER_BYTES: Final = 2 * 1024 * 1024
"""When so much waits to be sent, answers are read no faster than the bus takes them."""

WINDOW_SECONDS_EACH: Final = 0.0003
"""Each stream at the engine adds so much to the window: what its events cost is what a few tokens
of the others wait for in any case, and a stream alone is not slowed down."""

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"

CANCELLED: Final = "Nobody waits for this answer any more."


@dataclass(frozen=True)
class AttemptContext:
    """What all attempts of a worker share."""

    worker: ProcessId
    options: CommonOptions
    bus: Bus
    outbox: FrameSender
    client: EngineClient
    backend: Backend
    replay: RetransmitBuffer
    metrics: WorkerMetrics
    log: Logger
    share: GpuTime = field(default_factory=lambda: GpuTime(0))


class Attempt:
    """The work on one delivered request, in a task of its own."""

    def __init__(self, shared: AttemptContext, request: Request, number: int) -> None:
        self.request = request
        self.number = number
        self.replies: dict[int, str] = {}
        """Where to acknowledge, by number in the stream: the newest delivery of each message."""
        self.later: dict[int, str] = {}
        """The same for messages that the edge has published since, because it did not hear us."""
        self.outcome = ""
        """How it ended; empty where the whole worker was cancelled."""
        self.told = 0
        """How many frames there were when the queue was last told that it goes on."""
        self.complete = False
        """Whether the answer was sent to its end."""
        self._shared = shared
        self._address = frame_sender.address(request.edge, request.id)
        self._after = request.partial.after if request.partial is not None else 0
        self._seq = 0
        self._bytes = 0
        self._began = 0.0
        self._first_byte = 0.0
        self._head: tuple[int, str] | None = None
        """What the engine has said before its first byte, and we have not passed on."""
        self._sent = 0
        self._limit = WINDOW_BYTES
        self._credited = asyncio.Event()
        self._usage = Usage()
        self._answer: EngineStream | None = None
        self._share = 0.0
        self._stop: Fail | None = None
        self._task: asyncio.Task[None] | None = None
        self._concluded = False

    def start(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Say that the request is accepted, and work on it in a task of its own."""
        self._began = time.monotonic()
        self._share = self._shared.share.begin(self._began)
        self._shared.replay.begin(self.request.id, self.request.edge, self.number)
        self._emit(
            Accepted(
                self.number, self._next(), self._shared.worker, self._shared.options.cluster,
                self._after,
            )
        )  # fmt: skip
        self._task = tasks.create_task(self._run(), name=f"request {self.request.id}")
        return self._task

    def cancel(self) -> None:
        """Nobody waits for the answer: the engine stops, and the edge is told that it has."""
        self._end_early(Fail(self.number, 0, Code.CANCELLED, CANCELLED, retryable=False))

    def fail(self, code: Code, message: str) -> None:
        """The worker can't go on with it; another one may."""
        self._end_early(Fail(self.number, 0, code, message, retryable=True))

    def credit(self, limit: int) -> None:
        """So many bytes of chunks may be sent in all."""
        self._limit = max(self._limit, limit)
        self._credited.set()

    def conclude(self) -> None:
        """Settle what is left. A task cancelled before its first step can't do so itself."""
        if self._concluded:
            return
        self._concluded = True
        if self._stop is not None and not self.outcome:
            self._fail(self._stop.code, self._stop.message, retryable=self._stop.retryable)
        now = asyncio.get_running_loop().time()
        self._shared.share.end(self._share, time.monotonic())
        self._shared.replay.end(self.request.id, now, complete=self.complete)
        self._tell()

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self.request.deadline - time.time()):
                await self._serve()
        except asyncio.CancelledError:
            if self._stop is None:
                raise
        except HeadraceError as error:
            self._refuse(error)
        except TimeoutError:
            self._fail(Code.DEADLINE_EXCEEDED, "The answer took too long.", retryable=False)
        except OSError as error:
            self._refuse(self._shared.backend.broken(error))
        except Exception as error:  # one request must not take the others along
            self._shared.log.error("attempt_crashed", request=self.request.id, exc_info=error)
            self._fail(Code.INTERNAL, "The worker failed on this request.", retryable=False)
        finally:
            self.conclude()

    async def _serve(self) -> None:
        delivered = self.number - self.request.attempt
        plan = await self._shared.backend.plan(self.request, delivered)
        usage, status = plan.reader.usage, 200
        if plan.path:
            usage, status = await self._exchange(plan)
        else:
            self.head(200, EVENT_STREAM)
            self.chunk(plan.said)
        self._usage = usage
        self._tell_head()  # of an answer without a body
        self._emit(End(self.number, self._next(), self._usage, self._timings()))
        self.complete = True
        self.outcome = "ok" if status < 400 else "engine_refused"

    async def _exchange(self, plan: EngineCall) -> tuple[Usage, int]:
        """Post it to the engine and send the answer; the usage and the engine's status."""
        answer = EngineStream(
            self._shared.options.limits, self, plan.reader, ids=plan.ids, timings=plan.timings
        )
        self._answer = answer
        shared = self._shared
        exchange = await shared.client.post(plan.path, plan.body, answer)
        try:
            while not await exchange.complete():
                await self._let_the_bus_catch_up()
                await self._let_the_client_catch_up()
                exchange.resume()
            if not answer.streams:
                if self._after:
                    check_status(answer.status)
                answer.pass_through(shared.backend.judged, exchange.retry_after)
            for piece in answer.rest():
                self.chunk(piece)
                if self.congested:
                    await self._let_the_bus_catch_up()
        finally:
            answer.drop()
            exchange.close()
        return answer.usage, answer.status

    # answer.Output

    def head(self, status: int, media: str) -> None:
        """Tell the engine's status and media type, together with the first piece of the body.

        Alone it would cost every hop a message, and the client waits for what it announces.
        """
        self._head = status, media

    def chunk(self, data: bytes, tokens: bytes = b"") -> None:
        """Send a piece of the body: the first at once."""
        self._tell_head()
        frame = codec.encode(Chunk(self.number, self._next(), data, tokens))
        self._keep(frame)
        if self._sent:
            self._shared.outbox.soon(self._address, frame)
        else:
            self._shared.outbox.now(self._address, frame)
        self._sent += len(data)

    def began(self) -> None:
        """Note when the first byte came."""
        if not self._first_byte:
            self._first_byte = self._elapsed()

    @property
    def window(self) -> float:
        """Seconds within which events travel together."""
        at_most = self._shared.options.limits.batch_seconds
        return min(at_most, WINDOW_SECONDS_EACH * self._shared.client.open)

    @property
    def congested(self) -> bool:
        """Whether more waits to be sent than should."""
        return self._shared.outbox.size > HIGH_WATER_BYTES

    @property
    def spent(self) -> bool:
        """Whether the client has so much to read that no more should be sent."""
        return self._sent >= self._limit

    def _tell_head(self) -> None:
        if self._head is not None:
            (status, media), self._head = self._head, None
            self._emit(Head(self.number, self._next(), status, media))

    async def _let_the_client_catch_up(self) -> None:
        while self.spent:
            self._credited.clear()
            await self._credited.wait()

    async def _let_the_bus_catch_up(self) -> None:
        self._shared.outbox.flush()
        with suppress(BusError):  # what can't be sent is kept, and resumed
            await self._shared.bus.flush()

    def _emit(self, frame: Frame) -> None:
        data = codec.encode(frame)
        self._keep(data)
        self._shared.outbox.now(self._address, data)

    def _keep(self, frame: bytes) -> None:
        self._bytes += len(frame)
        self._shared.replay.add(self.request.id, frame)

    def _refuse(self, error: HeadraceError) -> None:
        self._fail(
            error.code, error.message, retryable=error.retryable,
            retry_after=error.retry_after or 0,
        )  # fmt: skip

    def _fail(self, code: Code, message: str, *, retryable: bool, retry_after: int = 0) -> None:
        if self._answer is not None and not self._usage.completion_tokens:
            self._usage = self._answer.counted
        seq = self._next()
        self._emit(
            Fail(
                self.number, seq, code, message, retryable, self._usage, self._timings(),
                retry_after,
            )
        )  # fmt: skip
        self.outcome = str(code)

    def _end_early(self, why: Fail) -> None:
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
        # The edge tells of each request; what went well here is for metrics, unless asked for.
        tell = self._shared.log.debug if self.outcome == "ok" else self._shared.log.info
        tell(
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

    def _timings(self) -> Timings:
        gpu = self._shared.share.so_far(self._share, time.monotonic())
        return Timings(self._first_byte, self._elapsed(), gpu)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began
