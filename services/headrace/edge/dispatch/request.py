"""The requests that this edge process holds: each tied to a client's open connection."""

import asyncio
from collections import Counter
from typing import Any

from headrace.edge.dispatch.response_assembler import RequestPhase, ResponseAssembler
from headrace.edge.dispatch.transcript import Transcript
from headrace.edge.wait_policy import DEFAULT, Keepalive, WaitPolicy
from headrace.protocol.control import WINDOW_BYTES
from headrace.protocol.endpoints import Endpoint, Headers
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import RequestId, Slug
from headrace.protocol.requests import Partial


class LiveRequest:
    """One request whose client is still there. Times are the event loop's clock, in seconds."""

    __slots__ = (
        "_waiter",
        "answer",
        "arrived",
        "body",
        "comment",
        "commented",
        "credit",
        "deadline",
        "delivered_at",
        "endpoint",
        "external",
        "extra_headers",
        "first_byte",
        "heard",
        "held",
        "id",
        "keepalive",
        "lane",
        "left",
        "model",
        "partial",
        "patience",
        "position",
        "publishes",
        "rank",
        "receipt",
        "resumed",
        "seq",
        "stale",
        "started",
        "stream",
        "taken_at",
        "task",
        "tenant",
        "trace",
        "tries",
        "wall_deadline",
    )

    def __init__(  # noqa: PLR0915  # fields, no more
        self,
        *,
        id: RequestId,
        endpoint: Endpoint,
        model: Slug,
        stream: bool,
        body: bytes,
        tenant: str,
        lane: str,
        trace: str,
        now: float,
        wall: float,
        deadline_seconds: float,
        max_buffered: int,
        patience: WaitPolicy = DEFAULT,
        keepalive: Keepalive = Keepalive.COMMENT,
        external: bool = False,
        receipt: object = None,
        extra_headers: Headers | None = None,
    ) -> None:
        self.id = id
        self.endpoint = endpoint
        self.model = model
        self.stream = stream
        self.body = body
        self.tenant = tenant
        self.lane = lane
        self.trace = trace
        self.arrived = now
        self.deadline = now + deadline_seconds
        self.wall_deadline = wall + deadline_seconds
        """The deadline in Unix seconds, for the worker's clock."""
        self.patience = patience
        self.keepalive = keepalive
        self.external = external
        """Whether a commercial provider answers it: what one has written, no other continues."""
        self.receipt = receipt
        """What `limits.admission` gave for it, and alone looks into."""
        self.extra_headers = extra_headers or []
        """For the head of the response: the limits of its client."""
        self.answer = ResponseAssembler(max_buffered, Transcript() if stream else None)
        self.heard = now
        """When its worker was last known to be at it."""
        self.resumed = 0.0
        """When missing frames were last asked for."""
        self.stale = 0.0
        """When a worker was last told that its attempt is over."""
        self.delivered_at = 0.0
        """When we saw that its message was given out though nobody has said so, 0 if not."""
        self.started = 0.0
        """When a worker took it, 0 before."""
        self.first_byte = 0.0
        """When the first byte of the answer came, 0 before."""
        self.seq = 0
        """Its number in the queue's stream, 0 while unknown."""
        self.publishes = 0
        """How often it was published as a new message."""
        self.tries = 0
        """How often it was published at all: each leaves numbers for attempts to its message."""
        self.partial: Partial | None = None
        """What another worker has to go on after."""
        self.credit = WINDOW_BYTES
        """What its worker was last allowed to send."""
        self.taken_at = now
        """When the client last took something."""
        self.task: asyncio.Task[Any] | None = None
        """Writes to the client, while a stream is on."""
        self.rank = 0
        """Its place in its lane at the last look, 0 before."""
        self.position = 0
        """How many requests are taken up to and with it, 0 while unknown; it never rises."""
        self.left = False
        """Whether the client has gone."""
        self.comment = False
        """Whether a comment is due, so that the client sees that it waits."""
        self.commented = now
        """When the last comment was sent."""
        self.held = True
        """Whether the HTTP status may still be held back."""
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let `changed` return."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def leave(self) -> None:
        """Its client has gone."""
        self.left = True
        self.wake()

    async def changed(self) -> bool:
        """Wait until `wake` is called; whether the client is still there.

        Only one task waits for a request.
        """
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return not self.left

    @property
    def over(self) -> bool:
        """Whether nothing more will come: ended, failed, or nobody there to read it."""
        return self.left or self.answer.phase is RequestPhase.ENDED


class LiveTable:
    """All live requests of the process by id, bounded, with each tenant's number of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: dict[str, LiveRequest] = {}
        self._tenants: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._requests)

    def get(self, id: str) -> LiveRequest | None:
        """The live request `id`, or None if it has ended or is not ours."""
        return self._requests.get(id)

    def all(self) -> list[LiveRequest]:
        """All of them at this moment."""
        return list(self._requests.values())

    def in_flight(self, tenant: str) -> int:
        """How many `tenant` has."""
        return self._tenants[tenant]

    def add(self, request: LiveRequest) -> None:
        """Take `request` in. Raises HeadraceError ``overloaded`` at the bound."""
        if len(self._requests) >= self._limit:
            raise HeadraceError(
                Code.OVERLOADED, "This server holds as many requests as it can.", retry_after=5
            )
        self._requests[request.id] = request
        self._tenants[request.tenant] += 1

    def remove(self, request: LiveRequest) -> None:
        """Let `request` go."""
        if self._requests.pop(request.id, None) is not None:
            self._tenants[request.tenant] -= 1
            if not self._tenants[request.tenant]:
                del self._tenants[request.tenant]
