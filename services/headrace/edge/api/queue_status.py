"""What a client that waits is told: comments, chunks, headers, JSON; the same words everywhere."""

import time
from typing import Final

import msgspec

from headrace.edge.dispatch.queue_depth import WEIGHTS, QueueDepth, position
from headrace.edge.dispatch.request import LiveRequest
from headrace.edge.dispatch.response_assembler import RequestPhase
from headrace.edge.models.registry import RegisteredModel
from headrace.edge.models.status import ModelStatus
from headrace.edge.wait_policy import Keepalive
from headrace.protocol import waiting
from headrace.protocol.endpoints import Endpoint, Headers
from headrace.protocol.plan import Interval

_json: Final = msgspec.json.Encoder()


class Eta(msgspec.Struct, frozen=True):
    """Seconds, from and to."""

    low: float
    high: float


class QueueObject(msgspec.Struct, frozen=True):
    """Where a model stands and what waits for it. What is not known is null."""

    model: str
    state: str
    reason: str
    waiting: int | None
    running: int
    slots: int
    position_of_next: int | None
    eta: Eta | None
    """How long the next request is likely to wait."""
    workers: int
    pending: int
    loading: int


class ModelFacts(QueueObject, frozen=True):
    """The same with what the model is, for the list of models."""

    modality: str
    description: str
    group: str
    external: bool
    """Whether prompts leave the site, for a commercial provider: a page may warn."""


def queue_object(
    model: RegisteredModel, standing: ModelStatus, queue: QueueDepth | None, lane: str
) -> QueueObject:
    """What is told of `model` to one whose next request goes into `lane`."""
    place = next_position(queue, lane)
    return QueueObject(
        model=model.name,
        state=standing.phase,
        reason=standing.reason,
        waiting=queue.waiting if queue else None,
        running=queue.running if queue else standing.running,
        slots=standing.slots,
        position_of_next=place or None,
        eta=_eta(standing.wait(place) if place else None),
        workers=standing.workers,
        pending=standing.pending,
        loading=standing.loading,
    )


def model_facts(
    model: RegisteredModel, standing: ModelStatus, queue: QueueDepth | None, lane: str
) -> ModelFacts:
    """The same with what the model is."""
    facts = model.facts
    told = msgspec.structs.asdict(queue_object(model, standing, queue, lane))
    return ModelFacts(
        **told,
        modality=facts.modality,
        description=facts.description,
        group=facts.group,
        external=model.external is not None,
    )


def next_position(queue: QueueDepth | None, lane: str) -> int:
    """The position that the next request of `lane` would have, 0 where unknown."""
    if queue is None:
        return 0
    return position(queue.pending[lane] + 1, lane, queue.pending, WEIGHTS)


def headers(standing: ModelStatus, place: int) -> Headers:
    """The headers for a request at position `place` (0: unknown, or none)."""
    told = [(b"x-headrace-state", standing.phase.encode())]
    if place:
        told.append((b"x-headrace-position", b"%d" % place))
    told.append((b"x-headrace-eta", _wait(standing, place).encode()))
    return told


def keepalive(request: LiveRequest, model: RegisteredModel, now: float) -> bytes:
    """What a stream that waits is sent: one line that clients skip, or an empty chunk."""
    if request.keepalive is Keepalive.CHUNK:
        return chunk(request, model)
    waited = now - request.arrived
    if request.answer.phase is RequestPhase.RUNNING:
        return b": running waited=%ds\n\n" % waited
    standing = model.standing(now)
    return b": queued position=%s eta=%s state=%s waited=%ds\n\n" % (
        b"%d" % request.position if request.position else b"unknown",
        _wait(standing, request.position).encode(),
        standing.phase.encode(),
        waited,
    )


def chunk(request: LiveRequest, model: RegisteredModel) -> bytes:
    """A chunk that is valid and says nothing."""
    said: dict[str, object] = {"delta": {"content": ""}}
    kind = "chat.completion.chunk"
    if request.endpoint is Endpoint.COMPLETIONS:
        kind, said = "text_completion", {"text": "", "logprobs": None}
    return b"data: %s\n\n" % _json.encode(
        {
            "id": f"headrace-{request.id}",
            "object": kind,
            "created": int(time.time()),
            "model": model.name,
            "choices": [{"index": 0, **said, "finish_reason": None}],
        }
    )


def _wait(standing: ModelStatus, place: int) -> str:
    return waiting.text(standing.wait(place) if place else None)


def _eta(interval: Interval | None) -> Eta | None:
    return None if interval is None else Eta(round(interval.low, 1), round(interval.high, 1))
