"""The messages of live requests in the queue: published, published anew, and taken out again."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from headrace.edge.dispatch import resumable
from headrace.edge.dispatch.request import LiveRequest, LiveTable
from headrace.edge.dispatch.response_assembler import RequestPhase
from headrace.protocol import codec
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import LANES, ProcessId
from headrace.protocol.requests import ATTEMPTS, VERSION, Request
from headrace.runtime.nats.bus import BusError
from headrace.runtime.nats.jetstream import JetStream, JetStreamError
from headrace.runtime.tasks import TaskSet

RETRY_SECONDS: Final = 0.5
"""Between tries to publish what was accepted."""


class Publisher:
    """Keeps at most one message of each request that waits in the queue."""

    def __init__(
        self, edge: ProcessId, live: LiveTable, jetstream: JetStream, background: TaskSet
    ) -> None:
        self._edge = edge
        self._live = live
        self._jetstream = jetstream
        self._background = background
        self._time = asyncio.get_running_loop().time
        self.on_anew: Callable[[LiveRequest], Awaitable[None]]
        """Called before a request is sent once more."""

    async def publish(self, request: LiveRequest) -> None:
        """Publish `request` as it stands; again with the same id is harmless.

        Numbers of attempts are never used twice, though: a hub that was restarted counts anew, and
        may take what it has taken before.
        """
        number, oldest = request.publishes, ATTEMPTS * request.tries
        message_id = f"{request.id}.{number}"
        ttl = request.deadline - self._time()
        for last in (False, True):
            first = ATTEMPTS * request.tries
            request.tries += 1
            data = codec.encode(self._envelope(request, first))
            try:
                ack = await self._jetstream.publish(
                    request.model, request.lane, self._edge, data, id=message_id, ttl_seconds=ttl
                )
            except HeadraceError as error:
                if last or error.code is not Code.UNAVAILABLE:
                    raise
                continue  # the acknowledgement may be what was lost: the same id is taken once
            answer = request.answer
            low = oldest if ack.duplicate else first
            other = not low < answer.attempt < first + ATTEMPTS
            if (
                self._live.get(request.id) is None  # the client left while it was under way
                or request.publishes != number  # there is a newer one
                # All is there, of an attempt at an older message. One at this one acknowledges it.
                or (other and answer.phase is RequestPhase.ENDED)
                # An attempt that was given up goes on.
                or (other and answer.phase is RequestPhase.RUNNING and not ack.duplicate)
            ):
                self._background.spawn(self._delete(ack.seq))
            else:
                request.seq = ack.seq
            return

    def _envelope(self, request: LiveRequest, first: int) -> Request:
        """The message, with attempts above `first`."""
        return Request(
            version=VERSION,
            id=request.id,
            edge=self._edge,
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

    async def again(self, request: LiveRequest) -> None:
        """Until the queue has it: it was accepted once, so it waits for a queue that is full.

        A hub that is away comes back.
        """
        answer, number = request.answer, request.publishes
        while (
            answer.phase is RequestPhase.QUEUED and request.publishes == number and not request.left
        ):
            try:
                await self.publish(request)
            except HeadraceError:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def anew(self, request: LiveRequest) -> None:
        """A new message for a request whose old one is spent or gone.

        It goes before those that wait, if its turn had come already. Else its place is where it
        was: a thousand of one tenant that a restart has taken out must not pass everybody.
        """
        answer = request.answer
        transcript = answer.transcript
        if transcript is not None and answer.after:
            partial = transcript.partial()
            why = transcript.why_not() or resumable.why_not(request.endpoint, request.body)
            if not why and resumable.too_large(request.body, partial):
                why = "more than could be sent along"
            if request.external:
                why = why or "what a provider has written"
            if why and transcript.begun:
                answer.fail(
                    Code.NOT_CONTINUED,
                    f"The worker was lost, and a stream with {why} cannot be continued.",
                )
                request.wake()
                return
            request.partial = partial
        if request.started or request.delivered_at:
            request.lane = LANES[0]
        request.delivered_at = 0.0
        request.publishes += 1
        self.withdraw(request)
        self._background.spawn(self._anew(request))

    async def _anew(self, request: LiveRequest) -> None:
        try:
            await self.on_anew(request)
        except HeadraceError as error:
            request.answer.fail(error.code, error.message, retry_after=error.retry_after)
            request.wake()
        else:
            await self.again(request)

    def withdraw(self, request: LiveRequest) -> None:
        """Take its message out of the queue, wherever it is."""
        old, request.seq = request.seq, 0
        if old:
            self._background.spawn(self._delete(old))

    async def _delete(self, seq: int) -> None:
        # Where this fails it leaves the queue at its deadline by itself (per-message TTL).
        with contextlib.suppress(JetStreamError, BusError):
            await self._jetstream.delete(seq)
