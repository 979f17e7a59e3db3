"""Between the live requests and the bus: publishes, sorts frames in, cancels, keeps watch.

One subscription carries the frames of all requests; one sweep a second does all that depends on
time (deadlines, comments, lost workers), so that a token costs no timer and no task.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Final

from headrace.edge import patience
from headrace.edge.announcements import Announcements
from headrace.edge.answer import Phase, Step
from headrace.edge.live import LiveRequest, LiveTable
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.models import Model, Models
from headrace.edge.options import EdgeOptions
from headrace.edge.queues import Queues
from headrace.edge.standing import Standing
from headrace.edge.watch import ENDS, Due, due
from headrace.protocol import codec, subjects
from headrace.protocol.control import Cancel, Control, Resume
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Frame
from headrace.protocol.names import ProcessId, Slug
from headrace.protocol.requests import VERSION, Request
from headrace.runtime.bus import Bus, BusError, Message
from headrace.runtime.jetstream import JetStream, JetStreamError
from headrace.runtime.logging import Logger

SWEEP_SECONDS: Final = 0.5
RESUME_SECONDS: Final = 0.5
"""At most so often one request asks for missing frames."""
SETUP_RETRY_SECONDS: Final = 0.5
DEPARTED: Final = 4096
"""Requests remembered after their client left, so that a lost cancel is sent again."""
FORGET_SECONDS: Final = 60.0

CODES: Final = {
    Due.WAITED: Code.WAIT_EXCEEDED,
    Due.NOT_READY: Code.MODEL_NOT_READY,
    Due.FAILED: Code.MODEL_FAILED,
}


class Dispatcher:
    """The bus as the edge uses it."""

    def __init__(
        self,
        edge: ProcessId,
        bus: Bus,
        *,
        models: Models,
        options: EdgeOptions,
        metrics: EdgeMetrics,
        log: Logger,
    ) -> None:
        self.edge = edge
        self.live = LiveTable(options.max_live)
        self._queue_ready = False
        self._bus = bus
        self._jetstream = JetStream(bus)
        self._models = models
        self._options = options
        self._metrics = metrics
        self._log = log
        self.queues = Queues(self._jetstream, self.live)
        self._announcements = Announcements(models, self._jetstream, metrics=metrics, log=log)
        self._setup = asyncio.Event()
        self._departed: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._demanded: dict[Slug, float] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._time = asyncio.get_running_loop().time

    @property
    def ready(self) -> bool:
        """Whether the queue is there and requests can be taken."""
        return self._queue_ready and self._bus.connected

    async def run(self) -> None:
        """Subscribe and keep watch until cancelled."""
        self._bus.on_reconnect(self._on_reconnect)
        await self._bus.subscribe(subjects.responses(self.edge), self._on_response)
        await self._bus.subscribe(subjects.STATES, self._on_state)
        await self._bus.subscribe(subjects.PLANS, self._announcements.on_plan)
        self._models.complete_at = self._time() + self._options.learn_seconds
        self._setup.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_queue(), name="keep-queue")
            tasks.create_task(self._announcements.run(), name="announcements")
            tasks.create_task(self.queues.run(), name="queues")
            tasks.create_task(self._sweep(), name="sweep")

    async def submit(self, request: LiveRequest, model: Model) -> None:
        """Put `request` into the queue. Raises HeadraceError where that can't be."""
        await self._publish(request)
        if not model.ready(self._time()):
            self.wake_scaler(model.slug)

    def finish(self, request: LiveRequest) -> None:
        """The client has all it will get, or has left: nothing of the request stays behind."""
        self.live.remove(request)
        answer = request.answer
        if answer.phase is Phase.ENDED and answer.error is None:
            return  # the worker has acknowledged it
        if answer.worker:
            self._remember(request.id, answer.worker)
            self._spawn(self._control(answer.worker, Cancel(request.id)))
        if request.seq:
            self._spawn(self._delete(request.seq))

    def fail_all(self, code: Code, message: str) -> None:
        """End every live request with an error."""
        for request in self.live.all():
            request.answer.fail(code, message)
            request.wake()

    async def settle(self) -> None:
        """Wait until all that was begun in the background is done."""
        while self._background:
            await asyncio.wait(self._background)

    # --- to the queue -------------------------------------------------------------------------

    async def _publish(self, request: LiveRequest) -> None:
        """Publish `request` as it stands; again with the same id is harmless."""
        number = request.publishes
        envelope = Request(
            version=VERSION,
            id=request.id,
            edge=self.edge,
            endpoint=request.endpoint,
            model=request.model,
            stream=request.stream,
            body=request.body,
            deadline=request.wall_deadline,
            attempt=request.answer.attempt,
            tenant=request.tenant,
            trace=request.trace,
        )
        data = codec.encode(envelope)
        message_id = f"{request.id}.{number}"
        ttl = request.deadline - self._time()
        for last in (False, True):
            try:
                ack = await self._jetstream.publish(
                    request.model, request.lane, data, id=message_id, ttl_seconds=ttl
                )
            except HeadraceError as error:
                if last or error.code is not Code.UNAVAILABLE:
                    raise
                continue  # the acknowledgement may be what was lost: the same id is taken once
            request.seq = ack.seq
            if self.live.get(request.id) is None:
                # The client left while the message was under way.
                self._spawn(self._delete(ack.seq))
            return

    async def _publish_again(self, request: LiveRequest) -> None:
        try:
            await self._publish(request)
        except HeadraceError as error:
            request.answer.fail(error.code, error.message, retry_after=error.retry_after)
            request.wake()

    async def _republish(self, request: LiveRequest) -> None:
        """A new message for a request whose old one is spent or gone."""
        old, request.seq = request.seq, 0
        request.publishes += 1
        if old:
            await self._delete(old)
        await self._publish_again(request)

    async def _delete(self, seq: int) -> None:
        # Where this fails it leaves the queue at its deadline by itself (per-message TTL).
        with contextlib.suppress(JetStreamError, BusError):
            await self._jetstream.delete(seq)

    async def _keep_queue(self) -> None:
        """Make stream and consumers at the start and whenever the hub may have lost them."""
        told = ""
        while True:
            await self._setup.wait()
            self._setup.clear()
            try:
                await self._jetstream.ensure_queue(self._options.queue)
                for model in self._models.known():
                    await self._jetstream.ensure_consumers(model.slug)
            except (JetStreamError, BusError) as error:
                reason = f"{type(error).__name__}: {error}"
                if reason != told:
                    self._log.warning("queue_not_ready", reason=reason)
                    told = reason
                self._setup.set()
                await asyncio.sleep(SETUP_RETRY_SECONDS)
                continue
            self._queue_ready = True
            told = ""
            # A hub that came back has an empty queue: what waits here is published once more. A
            # hub that never was away has seen the ids and takes nothing twice.
            waiting = [one for one in self.live.all() if one.answer.phase is Phase.QUEUED]
            for request in waiting:
                self._spawn(self._publish_again(request))
            self._log.info("queue_ready", queued=len(waiting))

    def _on_reconnect(self) -> None:
        self._queue_ready = False
        self._setup.set()

    # --- from the bus -------------------------------------------------------------------------

    def _on_response(self, message: Message) -> None:
        try:
            frame = codec.decode_frame(message.data)
        except HeadraceError:
            self._metrics.bad_messages.inc()
            return
        id = subjects.response_request(message.subject)
        request = self.live.get(id)
        if request is None:
            self._stray(id, frame)
            return
        request.heard = self._time()
        step = request.answer.on_frame(frame)
        if step is Step.WAKE:
            request.wake()
        elif step is Step.RESUME:
            self._resume(request)
        elif step is Step.REFUSE and isinstance(frame, Accepted):
            self._spawn(self._control(frame.worker, Cancel(request.id)))
            request.wake()
        elif isinstance(frame, Accepted):
            self._accepted(request)

    def _accepted(self, request: LiveRequest) -> None:
        request.lost_at = 0.0
        if not request.started:
            request.started = request.heard
        answer = request.answer
        self._log.info(
            "accepted", request=request.id, worker=answer.worker, cluster=answer.cluster,
            model=request.model, attempt=answer.attempt,
        )  # fmt: skip

    def _on_state(self, message: Message) -> None:
        try:
            state = codec.decode_state(message.data)
        except HeadraceError:
            self._metrics.bad_messages.inc()
            return
        self._models.observe(state, self._time())

    def _stray(self, id: str, frame: Frame) -> None:
        """A frame of a request that is over: its worker has not heard so, or not yet."""
        if isinstance(frame, Accepted):
            self._remember(id, frame.worker)
        departed = self._departed.get(id)
        if departed is None:
            return
        worker, told = departed
        now = self._time()
        if now - told >= RESUME_SECONDS:
            self._departed[id] = (worker, now)
            self._spawn(self._control(worker, Cancel(id)))

    def _remember(self, id: str, worker: str) -> None:
        self._departed[id] = (worker, 0.0)
        if len(self._departed) > DEPARTED:
            self._departed.popitem(last=False)

    # --- to workers and scalers ---------------------------------------------------------------

    def _resume(self, request: LiveRequest) -> None:
        now = self._time()
        answer = request.answer
        if now - request.resumed < RESUME_SECONDS:
            return
        request.resumed = now
        self._metrics.resumes.inc()
        ask = Resume(request.id, self.edge, answer.attempt, answer.next_seq)
        self._spawn(self._control(answer.worker, ask))

    async def _control(self, worker: str, control: Control) -> None:
        # Where this fails the sweep, or the next stray frame, tries again.
        with contextlib.suppress(BusError, ValueError):
            await self._bus.publish(subjects.control(ProcessId(worker)), codec.encode(control))

    def wake_scaler(self, model: Slug, *, turned_away: bool = False) -> None:
        """Tell scalers that `model` is asked for; `turned_away`, by one who did not queue up."""
        now = self._time()
        if now - self._demanded.get(model, 0.0) < 1.0:
            return
        self._demanded[model] = now
        self._spawn(self._hint(model, b"turned-away" if turned_away else b""))

    async def _hint(self, model: Slug, data: bytes) -> None:
        # A lost hint only costs the scaler one polling interval.
        with contextlib.suppress(BusError):
            await self._bus.publish(subjects.demand(model), data)

    # --- the watch ----------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._time()
            self._models.forget(now - FORGET_SECONDS)
            standings: dict[str, Standing | None] = {}
            for request in self.live.all():
                if request.model not in standings:
                    standings[request.model] = self._standing(request.model, now)
                self._watch(request, now, standings[request.model])

    def _standing(self, slug: str, now: float) -> Standing | None:
        """Where a model stands; None if it is offered no more."""
        model = self._models.by_slug(slug)
        return None if model is None or model.removed else model.standing(now)

    def _watch(self, request: LiveRequest, now: float, standing: Standing | None) -> None:
        answer = request.answer
        model = self._models.by_slug(request.model)
        heard = model.heard(answer.worker) if model is not None and answer.worker else 0.0
        phase = standing.phase if standing else None
        what = due(request, now, heard, self._options, phase)
        if what & ENDS:
            self._end(request, what, standing)
        if Due.LOST in what:
            self._log.warning(
                "worker_lost", request=request.id, worker=answer.worker, model=request.model
            )
            answer.lose(Code.WORKER_LOST, "The worker that served this request was lost.")
        if answer.phase is Phase.QUEUED and answer.losses and not request.lost_at:
            request.lost_at = now
        if Due.REPUBLISH in what:
            request.lost_at = now
            self._spawn(self._republish(request))
        if Due.RESUME in what:
            self._resume(request)
        if Due.COMMENT in what:
            request.comment = True
        if Due.RELEASE in what:
            request.held = False
        if what & (ENDS | Due.LOST | Due.COMMENT | Due.RELEASE):
            request.wake()

    def _end(self, request: LiveRequest, what: Due, standing: Standing | None) -> None:
        """End a request that has no time left, or nothing to wait for."""
        answer = request.answer
        if Due.DEADLINE in what:
            answer.fail(
                Code.DEADLINE_EXCEEDED,
                f"The request did not finish within {self._options.deadline_seconds:.0f} s.",
            )
            return
        if standing is None:
            answer.fail(Code.MODEL_REMOVED, "The model is not offered any more.")
            return
        code = CODES[what]
        answer.fail(
            code,
            patience.sentence(code, request.model, standing, request.patience),
            retry_after=patience.retry_after(standing.wait(request.position or 1)),
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
