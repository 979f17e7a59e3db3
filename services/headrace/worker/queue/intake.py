"""Requests in: pulls sent, deliveries sorted, attempts started, messages acknowledged.

The shell around `PullScheduler`: one subscription for everything that pulls bring, one publish
per pull.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from headrace.protocol import codec, subjects
from headrace.protocol.codec import UnknownVersionError
from headrace.protocol.control import Cancel, Credit
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Fail
from headrace.protocol.names import ProcessId, RequestId
from headrace.protocol.requests import Request
from headrace.runtime.nats.bus import BusError, Message
from headrace.runtime.nats.jetstream import (
    ACK,
    IN_PROGRESS,
    NAK,
    TERM,
    Delivery,
    JetStream,
    delivery_of,
)
from headrace.worker.queue.attempt import Attempt, AttemptContext
from headrace.worker.queue.pull_scheduler import PullScheduler
from headrace.worker.queue.retransmitter import NAK_LATER, Retransmitter

WARY_SECONDS: Final = 0.5
"""So long after a failure of the engine nothing is begun. The edge sends what failed again at once:
it must not meet the same dead engine, before the worker knows that it is dead."""


class Intake:
    """The requests that this worker has taken."""

    def __init__(
        self, shared: AttemptContext, jetstream: JetStream, tasks: asyncio.TaskGroup
    ) -> None:
        self._shared = shared
        self._jetstream = jetstream
        self._tasks = tasks
        self._echo = Retransmitter(shared)
        self._slots = shared.options.slots
        weights = shared.options.lanes.weights
        self._puller = PullScheduler(self._slots, weights)
        self._inbox = f"{shared.bus.inbox}.pull"
        self._running: dict[str, Attempt] = {}
        # The heaviest lane first: its requests are the first to get a slot.
        self._held: dict[str, list[Attempt]] = {lane: [] for lane in weights}
        self._wary_until = 0.0
        self._pulling = False
        self._changed = asyncio.Event()
        shared.metrics.running.set_function(lambda: self.running)
        shared.metrics.held.set_function(lambda: self.held)

    async def start(self) -> None:
        """Begin to pull."""
        await self._shared.bus.subscribe(f"{self._inbox}.>", self._on_message)
        self._shared.bus.on_reconnect(self._on_reconnect)
        self._pulling = True
        self.pump()

    @property
    def running(self) -> int:
        """Requests in work."""
        return len(self._running)

    @property
    def held(self) -> int:
        """Requests taken that wait for a slot."""
        return sum(len(lane) for lane in self._held.values())

    def pump(self) -> None:
        """Start what is held as far as slots are free, and ask for more."""
        now = self._now()
        self._puller.expire(now)
        if now >= self._wary_until:
            while self.running < self._slots and (attempt := self._next_held()) is not None:
                self._begin(attempt)
            if self._pulling and self._shared.backend.takes:
                self._pull(now)
        if not self._pulling:
            self._changed.set()

    def _pull(self, now: float) -> None:
        for pull in self._puller.plan(self.running + self.held, now):
            reply = f"{self._inbox}.{pull.lane}.{pull.number}"
            try:
                self._jetstream.pull(
                    self._shared.options.model_slug, pull.lane,
                    reply=reply, batch=pull.batch, expires=pull.expires,
                )  # fmt: skip
            except BusError:
                self._puller.settled(pull.number, pull.lane, "503", now)

    async def drained(self) -> None:
        """Wait until nothing runs and nothing that was asked for may still come."""
        while self.running or self._puller.outstanding:
            self._changed.clear()
            await self._changed.wait()

    async def idle(self) -> None:
        """Wait until nothing runs."""
        while self.running:
            self._changed.clear()
            await self._changed.wait()

    def progress(self) -> None:
        """Tell the queue that everything taken is in good hands."""
        for attempt in self._running.values():
            self._settle(attempt.replies, IN_PROGRESS)
            self._settle(attempt.later, IN_PROGRESS)
            self._remind(attempt)
        for attempt in self._all_held():
            self._settle(attempt.replies, IN_PROGRESS)

    def _remind(self, attempt: Attempt) -> None:
        """Say the last frame again where none has followed since the last time.

        All cancels may have been lost, and an attempt that waits for its client or for the first
        token would hold its slot to the deadline: an edge that does not want it says so.
        """
        kept = self._shared.replay.find(attempt.request.id)
        if kept is not None and kept.next_seq == attempt.told:
            self._echo.frames(attempt.request.id, kept.next_seq - 1)
        attempt.told = kept.next_seq if kept is not None else 0

    def cancel_all_of(self, edge: str) -> None:
        """Everybody who waited for an answer through `edge` is gone with it."""
        for attempt in (*self._running.values(), *self._all_held()):
            if attempt.request.edge == edge:
                self.cancel(Cancel(attempt.request.id), alone=False)

    def cancel(self, told: Cancel, *, alone: bool) -> None:
        """Stop the attempt, and say that it is stopped, if this worker has or had it.

        Told `alone`, the worker also answers for attempts before the last one that it remembers.
        """
        attempt = self._find(told.request)
        kept = self._shared.replay.ended(told.request) if attempt is None else None
        if attempt is not None:
            number, edge = attempt.number, attempt.request.edge
        elif kept is not None:
            number, edge = kept.attempt, kept.edge
        else:
            return
        if told.attempt in (0, number):
            if kept is not None:
                kept.complete = False  # if the edge sends it again, it does not want this answer
                self._echo.cancelled(told.request, edge, number, kept.next_seq)
            elif attempt is not None and told.request in self._running:
                if not told.attempt:  # nobody waits for any attempt
                    attempt.replies |= attempt.later
                    attempt.later.clear()
                attempt.cancel()
            elif attempt is not None:
                self._drop_held(attempt)
                self._echo.never_begun(attempt, self._now())
                self._settle(attempt.replies, ACK)
        elif alone and told.attempt < number:
            self._echo.cancelled(told.request, edge, told.attempt)

    def credit(self, told: Credit) -> None:
        """The client of an attempt has read on."""
        attempt = self._running.get(told.request)
        if attempt is not None and attempt.number == told.attempt:
            attempt.credit(told.limit)

    def give_up(self, request: str, number: int, code: Code, message: str) -> None:
        """End an attempt with a failure, if it runs; another worker may go on."""
        attempt = self._running.get(request)
        if attempt is not None and attempt.number == number:
            attempt.fail(code, message)

    def stop_pulling(self) -> None:
        """Take nothing more: what is held is given back now, what still comes when it comes."""
        self._pulling = False
        for attempts in self._held.values():
            for attempt in attempts:
                self._shared.metrics.given_back.inc()
                self._settle(attempt.replies, NAK)
            attempts.clear()

    def fail_all(self, code: Code, message: str) -> None:
        """End everything that runs with a retryable failure, and give back what is held."""
        self.stop_pulling()
        for attempt in self._running.values():
            attempt.fail(code, message)

    def _on_message(self, message: Message) -> None:
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None:
            self._on_delivery(message)
        else:
            _, lane, number = message.subject.rsplit(".", 2)
            now = self._now()
            self._puller.settled(int(number), lane, status, now)
        self.pump()

    def _on_delivery(self, message: Message) -> None:
        lane = subjects.request_lane(message.subject)
        delivery = delivery_of(message.reply)
        self._puller.delivered(lane, delivery.pending, self._now())
        try:
            request = codec.decode_request(message.data)
        except HeadraceError as error:
            self._refuse(message.reply, delivery.delivered, error)
            return
        if request.model != self._shared.options.model or lane not in self._held:
            other = HeadraceError(Code.BAD_MESSAGE, "A request for another queue.")
            self._refuse(message.reply, delivery.delivered, other)
            return
        self._take(request, lane, delivery, message.reply)

    def _take(self, request: Request, lane: str, delivery: Delivery, reply: str) -> None:
        attempt = Attempt(self._shared, request, request.attempt + delivery.delivered)
        attempt.replies[delivery.stream_seq] = reply
        if request.id in self._running:
            self._adopt(self._running[request.id], attempt)
        elif (held := self._find(request.id)) is not None:
            self._replace(held, attempt, lane)
        elif verb := self._echo.ended(request):
            self._send(reply, verb)
        elif request.deadline <= time.time():
            self._send(reply, ACK)  # the edge has told its client already
        elif not self._pulling or self.held >= self._slots + len(self._held):
            self._shared.metrics.given_back.inc()
            self._send(reply, NAK)
        else:
            self._held[lane].append(attempt)

    def _adopt(self, running: Attempt, again: Attempt) -> None:
        """In work right here: only signs of life, or all of its frames, were late or lost."""
        if again.request.attempt < running.number:
            running.replies |= again.replies
        else:  # published anew, for the edge does not hear us
            running.later |= again.replies
            self._echo.frames(running.request.id)
        self._settle(again.replies, IN_PROGRESS)

    def _replace(self, held: Attempt, again: Attempt, lane: str) -> None:
        """Nobody knows yet that it is held. What the edge has published last counts."""
        if again.request.attempt > held.request.attempt:
            self._drop_held(held)
            self._settle(held.replies, ACK)
            self._held[lane].append(again)
        elif again.request.attempt == held.request.attempt:
            held.replies |= again.replies
        else:
            self._settle(again.replies, ACK)

    def _drop_held(self, held: Attempt) -> None:
        for attempts in self._held.values():
            if held in attempts:
                attempts.remove(held)

    def _find(self, request: str) -> Attempt | None:
        if request in self._running:
            return self._running[request]
        return next((held for held in self._all_held() if held.request.id == request), None)

    def _refuse(self, reply: str, delivered: int, error: HeadraceError) -> None:
        self._shared.metrics.refused.inc()
        self._shared.log.warning("message_refused", code=error.code)
        if isinstance(error, UnknownVersionError):
            told = error.preamble
            subject = subjects.response(ProcessId(told.edge), RequestId(told.id))
            fail = Fail(delivered, 0, error.code, error.message, retryable=False)
            self._send(subject, codec.encode(fail))
        self._send(reply, TERM)

    def _begin(self, attempt: Attempt) -> None:
        self._running[attempt.request.id] = attempt
        task = attempt.start(self._tasks)
        task.add_done_callback(lambda _: self._ended(attempt))

    def _ended(self, attempt: Attempt) -> None:
        attempt.conclude()
        del self._running[attempt.request.id]
        if attempt.outcome == Code.ENGINE_FAILED:
            self._wary_until = self._now() + WARY_SECONDS
        if attempt.outcome:
            # The edge knows the outcome, and owns second attempts. Where it has begun one already,
            # it may not want this one's outcome; else it takes the new message back.
            self._settle(attempt.replies, ACK)
            self._settle(attempt.later, NAK_LATER if attempt.complete else NAK)
        self.pump()

    def _settle(self, replies: dict[int, str], verb: bytes) -> None:
        for reply in replies.values():
            self._send(reply, verb)

    def _send(self, subject: str, data: bytes) -> None:
        try:
            self._shared.bus.send(subject, data)
        except BusError:
            return  # the queue gives it out again when it hears nothing, and then it is known here

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _next_held(self) -> Attempt | None:
        for attempts in self._held.values():  # in the order of the lanes' weight
            if attempts:
                return attempts.pop(0)
        return None

    def _all_held(self) -> Iterator[Attempt]:
        for attempts in self._held.values():
            yield from attempts

    def _on_reconnect(self) -> None:
        self._puller.reset()
        self.pump()
