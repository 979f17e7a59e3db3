"""Between the live requests and the bus: sorts frames in, cancels, keeps watch.

One subscription carries the frames of all requests; one sweep does all that depends on time
(deadlines, comments, lost workers), so that a token costs no timer and no task.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from headrace.edge import wait_policy
from headrace.edge.api.validation import lane_of
from headrace.edge.dispatch.edge_peers import EdgePeers
from headrace.edge.dispatch.publisher import Publisher
from headrace.edge.dispatch.queue_depth import QueueDepths
from headrace.edge.dispatch.request import LiveRequest, LiveTable
from headrace.edge.dispatch.response_assembler import MAX_LOSSES, RequestPhase, Step
from headrace.edge.dispatch.timers import ENDS, Due, due
from headrace.edge.dispatch.worker_control import PendingCancels, WorkerControl
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.models.announcements import Announcements
from headrace.edge.models.registry import ModelRegistry, RegisteredModel
from headrace.edge.models.status import ModelStatus
from headrace.edge.options import EdgeOptions
from headrace.protocol import codec, names, subjects
from headrace.protocol.control import WINDOW_BYTES, Cancel
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Fail, Frame
from headrace.protocol.names import ProcessId, Slug
from headrace.runtime.logging import Logger
from headrace.runtime.nats.bus import Bus, BusError, Message
from headrace.runtime.nats.jetstream import JetStream, JetStreamError
from headrace.runtime.tasks import TaskSet

SWEEP_SECONDS: Final = 0.5
SETUP_RETRY_SECONDS: Final = 0.5
STALE_SECONDS: Final = 0.5
"""At most so often a worker is told that its attempt at one request is over."""
FORGET_SECONDS: Final = 60.0

_OUR_PART: Final = Due.LOST | Due.REPUBLISH | Due.SLOW | Due.RESUME

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
        models: ModelRegistry,
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
        self.queues = QueueDepths(self._jetstream, self.live)
        self._announcements = Announcements(models, self._jetstream, metrics=metrics, log=log)
        self.on_started: Callable[[LiveRequest], None] = _nothing
        """Called when a worker takes a request."""
        self.on_stopped: Callable[[str, Frame], None] = _nothing
        """Called with frames of requests that are over here."""
        self._setup = asyncio.Event()
        self._cancels = PendingCancels()
        self._background = TaskSet()
        self._orders = WorkerControl(edge, bus, self._background)
        self._publisher = Publisher(edge, self.live, self._jetstream, self._background)
        self.on_anew: Callable[[LiveRequest], Awaitable[None]] = _granted
        """Called before a request is sent once more; HeadraceError ends it."""
        self._publisher.on_anew = self._on_anew
        self._company = EdgePeers(edge, bus, self._jetstream, on_gone=self._on_gone, log=log)
        self._demanded: dict[Slug, float] = {}
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
            tasks.create_task(self._company.run(), name="company")

    async def submit(self, request: LiveRequest, model: RegisteredModel) -> None:
        """Put `request` into the queue. Raises HeadraceError where that can't be."""
        try:
            await self._publisher.publish(request)
        except HeadraceError:
            if not request.answer.attempt:
                raise
            # A worker has it: only the queue's acknowledgement was lost.
        if not model.ready(self._time()):
            self.wake_scaler(model.slug)

    def finish(self, request: LiveRequest) -> None:
        """The client has all it will get, or has left: nothing of the request stays behind."""
        self.live.remove(request)
        answer = request.answer
        if answer.phase is RequestPhase.ENDED and answer.error is None:
            return  # the worker has acknowledged it
        if answer.worker:
            self._orders.say(self._cancels.begin(request.id, answer.worker, self._time()))
        self._publisher.withdraw(request)

    def taken(self, request: LiveRequest) -> None:
        """The client has taken something: its worker may send more, if it need know that by now."""
        request.taken_at = self._time()
        limit = request.answer.credit
        if limit - request.credit >= WINDOW_BYTES // 2:
            self._orders.credit(request, limit)

    @property
    def others(self) -> int:
        """How many other edge processes there are."""
        return self._company.others

    def lane(self, tenant: str) -> str:
        """The lane of the next request of `tenant`."""
        return lane_of(self.live.in_flight(tenant), 1 + self.others)

    def fail_all(self, code: Code, message: str) -> None:
        """End every live request with an error."""
        for request in self.live.all():
            request.answer.fail(code, message)
            request.wake()

    async def settle(self) -> None:
        """Wait until all that was begun in the background is done."""
        await self._background.settle()

    # --- the queue ---------------------------------------------------------------------------

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
            waiting = [one for one in self.live.all() if one.answer.phase is RequestPhase.QUEUED]
            for request in waiting:
                self._background.spawn(self._publisher.again(request))
            self._log.info("queue_ready", queued=len(waiting))

    def _on_reconnect(self) -> None:
        self._queue_ready = False
        self._setup.set()

    async def _on_anew(self, request: LiveRequest) -> None:
        await self.on_anew(request)

    def _on_gone(self) -> None:
        """The other edges took us for dead, and what waited here out of the queue."""
        for request in self.live.all():
            if request.answer.phase is RequestPhase.QUEUED:
                self._publisher.anew(request)

    # --- from the bus -------------------------------------------------------------------------

    def _on_response(self, message: Message) -> None:
        try:
            frames = codec.decode_frames(message.subject, message.data)
        except HeadraceError:
            self._metrics.bad_messages.inc()
            return
        for id, frame in frames:
            self._on_frame(id, frame)

    def _on_frame(self, id: str, frame: Frame) -> None:
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
        elif step is Step.NOTHING:
            if isinstance(frame, Accepted) and request.answer.attempt == frame.attempt:
                self._accepted(request)
        else:
            self._on_turn(request, frame, step)

    def _on_turn(self, request: LiveRequest, frame: Frame, step: Step) -> None:
        """What does not happen in an undisturbed request."""
        answer = request.answer
        match step:
            case Step.LOST:
                self._lost(request, str(frame.code) if isinstance(frame, Fail) else "")
            case Step.REVIVED:
                self._metrics.revived.inc()
                request.publishes += 1
                self._publisher.withdraw(request)
            case Step.UNKNOWN:
                self._resume(request, unknown=frame.attempt)
            case Step.REFUSE | Step.STALE:
                worker = frame.worker if isinstance(frame, Accepted) else ""
                if isinstance(frame, Accepted) or request.heard - request.stale >= STALE_SECONDS:
                    request.stale = request.heard
                    worker = worker or answer.worker_of(frame.attempt)
                    self._orders.say((worker, Cancel(request.id, frame.attempt)))
            case _:
                pass
        request.wake()

    def _lost(self, request: LiveRequest, reason: str) -> None:
        """An attempt is over without an answer: another worker is to go on."""
        answer = request.answer
        self._log.warning(
            "attempt_lost", request=request.id, worker=answer.worker, cluster=answer.cluster,
            model=request.model, attempt=answer.attempt, reason=reason, count=answer.losses,
        )  # fmt: skip
        self._metrics.lost.labels(request.model, reason).inc()
        if answer.phase is RequestPhase.QUEUED:
            self._publisher.anew(request)
        elif answer.losses >= MAX_LOSSES:
            # Set aside: it may be what ends workers. Its client is told, and the model lives on.
            self._log.error(
                "given_up", request=request.id, model=request.model, tenant=request.tenant,
                reason=reason, count=answer.losses,
            )  # fmt: skip
            self._metrics.given_up.labels(request.model).inc()
        request.wake()

    def _accepted(self, request: LiveRequest) -> None:
        request.delivered_at = 0.0
        request.credit = WINDOW_BYTES
        if not request.started:
            request.started = request.heard
            self.on_started(request)
        answer = request.answer
        # Where all goes well, `finished` tells it soon enough.
        tell = self._log.info if answer.losses else self._log.debug
        tell(
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
        if not names.is_request_id(id):
            self._metrics.bad_messages.inc()
            return
        self.on_stopped(id, frame)
        told = self._cancels.on_frame(id, frame, self._time())
        if told is not None:
            self._orders.say(told)

    # --- to workers and scalers ---------------------------------------------------------------

    def _resume(self, request: LiveRequest, unknown: int = 0) -> None:
        if self._orders.resume(request, self._time(), unknown):
            self._metrics.resumes.inc()

    def wake_scaler(self, model: Slug, *, turned_away: bool = False) -> None:
        """Tell scalers that `model` is asked for; `turned_away`, by one who did not queue up."""
        now = self._time()
        if now - self._demanded.get(model, 0.0) < 1.0:
            return
        self._demanded[model] = now
        self._background.spawn(self._hint(model, b"turned-away" if turned_away else b""))

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
            standings: dict[str, ModelStatus | None] = {}
            for told in self._cancels.due(now):
                self._orders.say(told)
            for request in self.live.all():
                if request.model not in standings:
                    standings[request.model] = self._standing(request.model, now)
                self._watch(request, now, standings[request.model])

    def _standing(self, slug: str, now: float) -> ModelStatus | None:
        """Where a model stands; None if it is offered no more."""
        model = self._models.by_slug(slug)
        return None if model is None or model.removed else model.standing(now)

    def _watch(self, request: LiveRequest, now: float, standing: ModelStatus | None) -> None:
        answer = request.answer
        model = self._models.by_slug(request.model)
        heard = model.heard(answer.worker) if model is not None and answer.worker else 0.0
        phase = standing.phase if standing else None
        what = due(request, now, heard, self._options, phase)
        if what & ENDS:
            self._end(request, what, standing)
        elif what & _OUR_PART:
            self._attend(request, what)
        if Due.COMMENT in what:
            request.comment = True
        if Due.RELEASE in what:
            request.held = False
        if what & (ENDS | Due.COMMENT | Due.RELEASE):
            request.wake()

    def _attend(self, request: LiveRequest, what: Due) -> None:
        """See to what goes wrong between here and the worker, or the client."""
        answer = request.answer
        if Due.LOST in what:
            answer.lose(Code.WORKER_LOST, silent=True)
            self._lost(request, "silence")
        if Due.REPUBLISH in what:
            self._publisher.anew(request)
        if Due.SLOW in what:
            answer.cut_off()
            if request.task is not None:
                request.task.cancel()  # it waits for the client
        if Due.RESUME in what:
            self._resume(request)
            if request.credit > WINDOW_BYTES:
                self._orders.credit(request, answer.credit)

    def _end(self, request: LiveRequest, what: Due, standing: ModelStatus | None) -> None:
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
            wait_policy.sentence(code, request.model, standing, request.patience),
            retry_after=wait_policy.retry_after(standing.wait(request.position or 1)),
        )


async def _granted(_: LiveRequest) -> None:
    """Nobody minds."""


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
