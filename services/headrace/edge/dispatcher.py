"""Between the live requests and the bus: publishes, sorts frames in, cancels, keeps watch.

One subscription carries the frames of all requests; one sweep a second does all that depends on
time (deadlines, comments, lost workers), so that a token costs no timer and no task.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from headrace.edge import continuation, patience
from headrace.edge.announcements import Announcements
from headrace.edge.answer import MAX_LOSSES, Phase, Step
from headrace.edge.cancels import Cancels
from headrace.edge.live import LiveRequest, LiveTable
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.models import Model, Models
from headrace.edge.options import EdgeOptions
from headrace.edge.peers import BEAT_SECONDS, SILENT_SECONDS, Peers
from headrace.edge.queues import Queues
from headrace.edge.standing import Standing
from headrace.edge.watch import ENDS, Due, due
from headrace.protocol import codec, subjects
from headrace.protocol.control import WINDOW_BYTES, Cancel, Control, Credit, Gone, Resume
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Accepted, Fail, Frame
from headrace.protocol.names import LANES, ProcessId, Slug
from headrace.protocol.requests import ATTEMPTS, VERSION, Request
from headrace.runtime.bus import Bus, BusError, Message
from headrace.runtime.jetstream import JetStream, JetStreamError
from headrace.runtime.logging import Logger

SWEEP_SECONDS: Final = 0.5
RESUME_SECONDS: Final = 0.5
"""At most so often one request asks for missing frames."""
SETUP_RETRY_SECONDS: Final = 0.5
STALE_SECONDS: Final = 0.5
"""At most so often a worker is told that its attempt at one request is over."""
FORGET_SECONDS: Final = 60.0
GONE: Final = b"gone"
"""What an edge is told that was taken for dead."""

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
        self.on_started: Callable[[LiveRequest], None] = _nothing
        """Called when a worker takes a request."""
        self.on_stopped: Callable[[str, Frame], None] = _nothing
        """Called with frames of requests that are over here."""
        self._setup = asyncio.Event()
        self._cancels = Cancels()
        self._peers = Peers(edge, asyncio.get_running_loop().time())
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
        await self._bus.subscribe(subjects.EDGES, self._on_edge)
        self._models.complete_at = self._time() + self._options.learn_seconds
        self._setup.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_queue(), name="keep-queue")
            tasks.create_task(self._announcements.run(), name="announcements")
            tasks.create_task(self.queues.run(), name="queues")
            tasks.create_task(self._sweep(), name="sweep")
            tasks.create_task(self._keep_company(), name="peers")

    async def submit(self, request: LiveRequest, model: Model) -> None:
        """Put `request` into the queue. Raises HeadraceError where that can't be."""
        try:
            await self._publish(request)
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
        if answer.phase is Phase.ENDED and answer.error is None:
            return  # the worker has acknowledged it
        if answer.worker:
            self._say(self._cancels.begin(request.id, answer.worker, self._time()))
        if request.seq:
            self._spawn(self._delete(request.seq))

    def taken(self, request: LiveRequest) -> None:
        """The client has taken something: its worker may send more, if it need know that by now."""
        request.taken_at = self._time()
        limit = request.answer.credit
        if limit - request.credit >= WINDOW_BYTES // 2:
            self._credit(request, limit)

    @property
    def others(self) -> int:
        """How many other edge processes there are."""
        return self._peers.count

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
        """Publish `request` as it stands; again with the same id is harmless.

        Numbers of attempts are never used twice, though: a hub that was restarted counts anew.
        """
        number, first = request.publishes, ATTEMPTS * request.tries
        request.tries += 1
        envelope = Request(
            version=VERSION,
            id=request.id,
            edge=self.edge,
            endpoint=request.endpoint,
            model=request.model,
            stream=request.stream,
            body=request.body,
            deadline=request.wall_deadline,
            attempt=first,
            tenant=request.tenant,
            trace=request.trace,
            partial=request.partial,
        )
        data = codec.encode(envelope)
        message_id = f"{request.id}.{number}"
        ttl = request.deadline - self._time()
        for last in (False, True):
            try:
                ack = await self._jetstream.publish(
                    request.model, request.lane, self.edge, data, id=message_id, ttl_seconds=ttl
                )
            except HeadraceError as error:
                if last or error.code is not Code.UNAVAILABLE:
                    raise
                continue  # the acknowledgement may be what was lost: the same id is taken once
            answer = request.answer
            other = answer.phase is Phase.RUNNING and not first < answer.attempt < first + ATTEMPTS
            if (
                self.live.get(request.id) is None  # the client left while it was under way
                or request.publishes != number  # there is a newer one
                or (other and not ack.duplicate)  # an attempt that was given up goes on
            ):
                self._spawn(self._delete(ack.seq))
            else:
                request.seq = ack.seq
            return

    async def _publish_again(self, request: LiveRequest) -> None:
        """Until the queue has it: it was accepted once, and a hub that is away comes back."""
        answer, number = request.answer, request.publishes
        while answer.phase is Phase.QUEUED and request.publishes == number and not request.left:
            try:
                await self._publish(request)
            except HeadraceError as error:
                if error.code is Code.UNAVAILABLE:
                    await asyncio.sleep(SETUP_RETRY_SECONDS)
                    continue
                answer.fail(error.code, error.message, retry_after=error.retry_after)
                request.wake()
            return

    def _republish(self, request: LiveRequest) -> None:
        """A new message for a request whose old one is spent or gone, before those that wait."""
        answer = request.answer
        transcript = answer.transcript
        if transcript is not None and answer.after:
            why = transcript.why_not() or continuation.why_not(request.endpoint, request.body)
            if why and transcript.begun:
                answer.fail(
                    Code.NOT_CONTINUED,
                    f"The worker was lost, and a stream with {why} cannot be continued.",
                )
                request.wake()
                return
            request.partial = transcript.partial()
        request.lane = LANES[0]
        request.delivered_at = 0.0
        request.publishes += 1
        self._withdraw(request)
        self._spawn(self._publish_again(request))

    def _withdraw(self, request: LiveRequest) -> None:
        """Take its message out of the queue, wherever it is."""
        old, request.seq = request.seq, 0
        if old:
            self._spawn(self._delete(old))

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
        self._peers.listen_anew(self._time())
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
                self._withdraw(request)
            case Step.UNKNOWN:
                self._resume(request, Resume(request.id, self.edge, frame.attempt, 0))
            case Step.REFUSE | Step.STALE:
                worker = frame.worker if isinstance(frame, Accepted) else ""
                if isinstance(frame, Accepted) or request.heard - request.stale >= STALE_SECONDS:
                    request.stale = request.heard
                    worker = worker or answer.worker_of(frame.attempt)
                    self._say((worker, Cancel(request.id, frame.attempt)))
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
        if answer.phase is Phase.QUEUED:
            self._republish(request)
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
        self.on_stopped(id, frame)
        told = self._cancels.on_frame(id, frame, self._time())
        if told is not None:
            self._say(told)

    # --- to workers and scalers ---------------------------------------------------------------

    def _resume(self, request: LiveRequest, ask: Resume | None = None) -> None:
        """Ask for what is missing; `ask` where that is of an attempt that we know nothing of."""
        now = self._time()
        answer = request.answer
        if now - request.resumed < RESUME_SECONDS:
            return
        request.resumed = now
        self._metrics.resumes.inc()
        known = Resume(request.id, self.edge, answer.attempt, answer.next_seq)
        self._say((answer.worker if ask is None else "", ask or known))

    def _credit(self, request: LiveRequest, limit: int) -> None:
        request.credit = limit
        answer = request.answer
        self._say((answer.worker, Credit(request.id, answer.attempt, limit)))

    def _say(self, told: tuple[str, Control]) -> None:
        """Tell a worker, or all where it is not known which."""
        self._spawn(self._control(*told))

    async def _control(self, worker: str, control: Control) -> None:
        # Where this fails the sweep, or the next stray frame, tries again.
        with contextlib.suppress(BusError, ValueError):
            to = subjects.control(ProcessId(worker)) if worker else subjects.CONTROL_ALL
            await self._bus.publish(to, codec.encode(control))

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

    # --- other edges ------------------------------------------------------------------------

    async def _keep_company(self) -> None:
        """Tell of ourselves, and clear up after edges that died."""
        me = subjects.edge(self.edge)
        began, looks = self._time(), 0
        while True:
            with contextlib.suppress(BusError, JetStreamError):
                await self._bus.publish(me, b"")
                # Twice, for what was under way when the first look was taken.
                if looks < 2 and self._time() - began > SILENT_SECONDS + looks * BEAT_SECONDS:
                    self._peers.queued(await self._jetstream.edges(), self._time())
                    looks += 1
                for dead in self._peers.dead(self._time()):
                    await self._clear_up(ProcessId(dead))
            await asyncio.sleep(BEAT_SECONDS)

    async def _clear_up(self, dead: ProcessId) -> None:
        self._log.warning("edge_gone", reason=dead)
        await self._jetstream.purge(dead)
        await self._bus.publish(subjects.CONTROL_ALL, codec.encode(Gone(dead)))
        # If it has only stood still for a while it must know what happened to its requests.
        await self._bus.publish(subjects.edge(dead), GONE)

    def _on_edge(self, message: Message) -> None:
        edge = subjects.last_name(message.subject)
        if edge != self.edge:
            if not message.data:
                self._peers.hear(edge, self._time())
            return
        if message.data == GONE:
            for request in self.live.all():
                if request.answer.phase is Phase.QUEUED:
                    self._republish(request)

    # --- the watch ----------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._time()
            self._models.forget(now - FORGET_SECONDS)
            standings: dict[str, Standing | None] = {}
            for told in self._cancels.due(now):
                self._say(told)
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
            self._republish(request)
        if Due.SLOW in what:
            answer.cut_off()
            if request.task is not None:
                request.task.cancel()  # it waits for the client
        if Due.RESUME in what:
            self._resume(request)
            if request.credit > WINDOW_BYTES:
                self._credit(request, answer.credit)

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


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
