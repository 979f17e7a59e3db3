"""What models' queues hold: asked once a second at most per model, however many requests wait."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from headrace.edge.dispatch.request import LiveRequest, LiveTable
from headrace.edge.dispatch.response_assembler import RequestPhase
from headrace.protocol.names import LANES, Slug
from headrace.runtime.engine import Lanes
from headrace.runtime.nats.bus import BusError
from headrace.runtime.nats.jetstream import JetStream, JetStreamError


def rank(before: int, *, pending: int, delivered: int, ahead: int, behind: int) -> int:
    """The place in its lane of a request that waits, from 1; it never rises.

    `before` is its rank at the last look, 0 at the first. `pending` is what the lane holds,
    `delivered` what it has given out since that look. Of this edge's own requests in the lane
    `ahead` are older and `behind` are younger, and wait too.

    Requests ahead that are deleted show in `pending`, or in `ahead` if they are our own. What is
    given out a second time counts in `delivered` although it was not ahead: `ahead` mends that.
    """
    most = pending - behind
    if before:
        most = min(most, before - max(delivered, 0))
    place = max(most, ahead + 1, 1)
    return min(place, before) if before else place


def position(place: int, lane: str, pending: Mapping[str, int], weights: Mapping[str, int]) -> int:
    """How many requests of all lanes are taken up to and with the one at rank `place` of `lane`."""
    others = (
        min(waiting, place * weights[other] // weights[lane])
        for other, waiting in pending.items()
        if other != lane
    )
    return place + sum(others)


LOOK_SECONDS: Final = 1.0

PATIENCE_SECONDS: Final = 1.0
"""A client that asks about a queue is not kept waiting for longer than this."""

LISTED_SECONDS: Final = 5.0
LISTED: Final = 64
"""For the list of all models older numbers do, and of so many models at most they are asked."""

FORGET_SECONDS: Final = 600.0
"""What nobody has asked for in so long may be of a model that has left."""

WEIGHTS: Final = Lanes().weights
"""As workers have them unless their model's file says otherwise, which an edge does not know."""


class QueueDepth(msgspec.Struct, frozen=True):
    """A model's queue when it was last looked at, lane by lane."""

    at: float
    pending: Mapping[str, int]
    running: int
    """Given out, and not done yet."""
    delivered: Mapping[str, int]
    """Given out since the queue was made."""
    last: Mapping[str, int]
    """The number in the stream of the newest message that was given out."""

    @property
    def waiting(self) -> int:
        """What all lanes hold."""
        return sum(self.pending.values())


class QueueDepths:
    """The queues of all models, as far as somebody wants to know."""

    def __init__(self, jetstream: JetStream, live: LiveTable) -> None:
        self._jetstream = jetstream
        self._live = live
        self._queues: dict[Slug, QueueDepth] = {}
        self._placed: dict[Slug, QueueDepth] = {}
        """What requests were last told by."""
        self._looking: dict[Slug, asyncio.Task[None]] = {}
        self._time = asyncio.get_running_loop().time

    def last(self, model: Slug) -> QueueDepth | None:
        """What the last look has found, if there was one."""
        return self._queues.get(model)

    async def look(self, models: Iterable[Slug], age: float = LOOK_SECONDS) -> None:
        """See to it that what is known of `models` is not older than `age`, as far as can be."""
        now = self._time()
        stale = [
            model
            for model in models
            if (known := self._queues.get(model)) is None or now - known.at > age
        ]
        tasks = [self._look(model) for model in stale]
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)

    async def run(self) -> None:
        """Follow the requests that wait, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            # Half of it, or a timer that fires a little early would skip every other look.
            await self.look(self._waiting(), LOOK_SECONDS / 2)
            self._place(self._waiting())
            old = self._time() - FORGET_SECONDS
            self._queues = {model: each for model, each in self._queues.items() if each.at > old}

    def _look(self, model: Slug) -> asyncio.Task[None]:
        """Whoever asks meanwhile gets the same look."""
        task = self._looking.get(model)
        if task is None:
            task = self._looking[model] = asyncio.create_task(self._ask(model))
            task.add_done_callback(lambda _: self._looking.pop(model, None))
        return task

    async def _ask(self, model: Slug) -> None:
        try:
            infos = [await self._jetstream.consumer_info(model, lane) for lane in LANES]
        except (JetStreamError, BusError):
            return  # what was known stays, and grows old
        self._queues[model] = QueueDepth(
            at=self._time(),
            pending=dict(zip(LANES, (info.num_pending for info in infos), strict=True)),
            running=sum(info.num_ack_pending for info in infos),
            delivered=dict(
                zip(LANES, (info.delivered.consumer_seq for info in infos), strict=True)
            ),
            last=dict(zip(LANES, (info.delivered.stream_seq for info in infos), strict=True)),
        )

    def _waiting(self) -> dict[Slug, dict[str, list[LiveRequest]]]:
        """Our requests that wait, by model and lane, oldest first."""
        found: dict[Slug, dict[str, list[LiveRequest]]] = {}
        for request in self._live.all():
            if request.seq and request.answer.phase is RequestPhase.QUEUED:
                lanes = found.setdefault(request.model, defaultdict(list))
                lanes[request.lane].append(request)
        for lanes in found.values():
            for requests in lanes.values():
                requests.sort(key=lambda request: request.seq)
        return found

    def _place(self, waiting: Mapping[Slug, Mapping[str, list[LiveRequest]]]) -> None:
        """Tell each of them where it stands."""
        placed: dict[Slug, QueueDepth] = {}
        for model, lanes in waiting.items():
            now = self._queues.get(model)
            if now is None:
                continue
            placed[model] = now
            before = self._placed.get(model, now)
            for lane, requests in lanes.items():
                delivered = now.delivered[lane] - before.delivered[lane]
                for ahead, request in enumerate(requests):
                    if not request.delivered_at and request.seq <= now.last[lane]:
                        request.delivered_at = now.at
                    request.rank = rank(
                        request.rank,
                        pending=now.pending[lane],
                        delivered=delivered,
                        ahead=ahead,
                        behind=len(requests) - ahead - 1,
                    )
                    place = position(request.rank, lane, now.pending, WEIGHTS)
                    request.position = min(place, request.position or place)
        self._placed = placed
