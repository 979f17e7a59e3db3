"""Requests in: pulls sent, deliveries sorted, attempts started, messages acknowledged.

The shell around `Puller`: one subscription for everything that pulls bring, one publish per pull.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from headrace.protocol import codec, subjects
from headrace.protocol.codec import UnknownVersion
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Fail
from headrace.protocol.names import ProcessId, RequestId
from headrace.protocol.requests import Request
from headrace.runtime.bus import BusError, Message
from headrace.runtime.jetstream import ACK, IN_PROGRESS, NAK, TERM, Delivery, JetStream, delivery_of
from headrace.worker.attempt import Attempt, Shared
from headrace.worker.puller import Puller
from headrace.worker.recent import Recent

NAK_LATER: Final = NAK + b' {"delay": 500000000}'
"""In nanoseconds. A request whose engine failed must not come back here before the worker knows
whether the engine is dead: it would use up its deliveries in no time."""

RECENT_SECONDS: Final = 120.0
"""Far longer than a lost acknowledgement needs to bring its request back."""


class Intake:
    """The requests that this worker has taken."""

    def __init__(self, shared: Shared, jetstream: JetStream, tasks: asyncio.TaskGroup) -> None:
        self._shared = shared
        self._jetstream = jetstream
        self._tasks = tasks
        self._slots = shared.options.slots
        weights = shared.options.lanes.weights
        self._puller = Puller(self._slots, weights)
        self._inbox = f"{shared.bus.inbox}.pull"
        self._running: dict[str, Attempt] = {}
        # The heaviest lane first: its requests are the first to get a slot.
        self._held: dict[str, list[Attempt]] = {lane: [] for lane in weights}
        self._recent = Recent(RECENT_SECONDS)
        self._pulling = False
        self._changed = asyncio.Event()

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
        while self.running < self._slots and (attempt := self._next_held()) is not None:
            self._begin(attempt)
        now = self._now()
        self._puller.expire(now)
        if self._pulling:
            for pull in self._puller.plan(self.running + self.held, now):
                reply = f"{self._inbox}.{pull.lane}.{pull.number}"
                try:
                    self._jetstream.pull(
                        self._shared.options.model_slug, pull.lane,
                        reply=reply, batch=pull.batch, expires=pull.expires,
                    )  # fmt: skip
                except BusError:
                    self._puller.settled(pull.number, pull.lane, "503", now)
        self._recent.expire(now)
        self._shared.metrics.running.set(self.running)
        self._shared.metrics.held.set(self.held)
        if not self._pulling:
            self._changed.set()

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
        for attempt in (*self._running.values(), *self._all_held()):
            self._settle(attempt, IN_PROGRESS)

    def cancel(self, request: str) -> None:
        """Nobody waits for `request` any more."""
        attempt = self._find(request)
        if attempt is None:
            return
        if request in self._running:
            attempt.cancel()
            return
        for attempts in self._held.values():
            if attempt in attempts:
                attempts.remove(attempt)
        self._settle(attempt, ACK)
        self._recent.add(request, self._now())

    def stop_pulling(self) -> None:
        """Take nothing more: what is held is given back now, what still comes when it comes."""
        self._pulling = False
        for attempts in self._held.values():
            for attempt in attempts:
                self._shared.metrics.given_back.inc()
                self._release(attempt, NAK)
            attempts.clear()

    def fail_all(self, code: Code, message: str) -> None:
        """End everything that runs with a retryable failure, and give back what is held."""
        self.stop_pulling()
        for attempt in self._running.values():
            attempt.fail(code, message)

    def hand_over(self, code: Code, message: str) -> None:
        """End everything that runs, for other workers to take; what they can't take over fails."""
        self.stop_pulling()
        for attempt in self._running.values():
            attempt.hand_over(code, message)

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
        lane = message.subject.rpartition(".")[2]
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
        known = self._find(request.id)
        if known is not None:
            # In work right here; only the signs of life were late.
            known.replies[delivery.stream_seq] = reply
            self._send(reply, IN_PROGRESS)
        elif request.id in self._recent:
            self._send(reply, ACK)  # ended, and only the acknowledgement was lost
        elif request.deadline <= time.time():
            self._send(reply, ACK)  # the edge has told its client already
        elif not self._pulling or self.held >= self._slots + len(self._held):
            self._shared.metrics.given_back.inc()
            self._send(reply, NAK)
        else:
            attempt = Attempt(self._shared, request, request.attempt + delivery.delivered)
            attempt.replies[delivery.stream_seq] = reply
            self._held[lane].append(attempt)

    def _find(self, request: str) -> Attempt | None:
        if request in self._running:
            return self._running[request]
        return next((held for held in self._all_held() if held.request.id == request), None)

    def _refuse(self, reply: str, delivered: int, error: HeadraceError) -> None:
        self._shared.metrics.refused.inc()
        self._shared.log.warning("message_refused", code=error.code)
        if isinstance(error, UnknownVersion):
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
        if attempt.again:
            failed = attempt.outcome == Code.ENGINE_FAILED
            self._release(attempt, NAK_LATER if failed else NAK)
        elif attempt.outcome:
            self._recent.add(attempt.request.id, self._now())
            self._settle(attempt, ACK)
        self.pump()

    def _release(self, attempt: Attempt, verb: bytes) -> None:
        # Of several messages of one request one is enough to have it served.
        *older, newest = sorted(attempt.replies)
        for seq in older:
            self._send(attempt.replies[seq], ACK)
        self._send(attempt.replies[newest], verb)

    def _settle(self, attempt: Attempt, verb: bytes) -> None:
        for reply in attempt.replies.values():
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
