"""What is due for a live request, as time goes by: a function of plain values."""

from enum import Flag, auto
from typing import Final

from headrace.edge.dispatch.request import LiveRequest
from headrace.edge.dispatch.response_assembler import RequestPhase
from headrace.edge.options import EdgeOptions
from headrace.edge.wait_policy import Keepalive
from headrace.protocol.plan import ModelPhase
from headrace.runtime.nats.jetstream import ACK_WAIT_SECONDS

QUIET_SECONDS: Final = 3.0
"""A running request that is quiet for so long asks its worker whether a frame was lost."""

REDELIVERY_SECONDS: Final = ACK_WAIT_SECONDS + 2.0
"""A message that was given out, and of which nobody has told in so long, is gone: the queue gives
one whose worker dies to another by then."""


class Due(Flag):
    """What the sweep has to do."""

    NOTHING = 0
    DEADLINE = auto()
    """Time is up."""
    LOST = auto()
    """Its worker is gone."""
    REPUBLISH = auto()
    """Its message is gone from the queue."""
    RESUME = auto()
    """Frames may be missing."""
    COMMENT = auto()
    """The client should see that it waits."""
    RELEASE = auto()
    """The HTTP status may be held back no longer."""
    WAITED = auto()
    """Its client does not want to wait any longer."""
    NOT_READY = auto()
    """Its client does not want to wait for a model without a worker."""
    FAILED = auto()
    """Its model has failed, and its client has not asked to wait all the same."""
    REMOVED = auto()
    """Its model has been taken away."""
    SLOW = auto()
    """Its client does not read."""


ENDS: Final = Due.DEADLINE | Due.WAITED | Due.NOT_READY | Due.FAILED | Due.REMOVED
"""What ends a request."""


def due(
    request: LiveRequest,
    now: float,
    worker_heard: float,
    options: EdgeOptions,
    phase: ModelPhase | None = ModelPhase.READY,
) -> Due:
    """What is due for `request`, whose worker was heard last at `worker_heard` (0: never).

    `phase` is its model's; None where the model has been removed.
    """
    answer = request.answer
    if answer.phase is RequestPhase.ENDED:
        # All is there, and yet it is held: its client does not take the rest.
        waited = now - max(request.taken_at, request.heard)
        held = request.task is not None and waited > options.slow_reader_seconds
        return Due.SLOW if held else Due.NOTHING
    if now >= request.deadline:
        return Due.DEADLINE
    what = Due.NOTHING
    if request.stream and answer.buffered and now - request.taken_at > options.slow_reader_seconds:
        return Due.SLOW
    quiet = now - request.heard > QUIET_SECONDS and now - request.resumed > QUIET_SECONDS
    if answer.phase is RequestPhase.RUNNING:
        if now - max(request.heard, worker_heard) > options.worker_silence_seconds:
            return Due.LOST
        if quiet:
            what |= Due.RESUME
    elif gone := _hopeless(request, now, phase):
        return gone
    elif request.delivered_at and now - request.delivered_at > REDELIVERY_SECONDS:
        what |= Due.REPUBLISH
    elif answer.silent and quiet:
        what |= Due.RESUME  # its link may be back before another worker takes it
    return what | _keepalive(request, now, options)


def _hopeless(request: LiveRequest, now: float, phase: ModelPhase | None) -> Due:
    """Why a request that is queued need not wait on, if so."""
    if phase is None:
        return Due.REMOVED
    patience = request.patience
    if phase is ModelPhase.FAILED and not patience.stubborn:
        return Due.FAILED
    if request.started:
        return Due.NOTHING  # it has waited already; its worker was lost
    if not patience.seconds:
        return Due.NOTHING if phase is ModelPhase.READY else Due.NOT_READY
    return Due.WAITED if now - request.arrived > patience.seconds else Due.NOTHING


def _keepalive(request: LiveRequest, now: float, options: EdgeOptions) -> Due:
    """What a client that waits for its stream should see."""
    if not request.stream or request.keepalive is Keepalive.OFF:
        return Due.NOTHING
    if request.held and now - request.arrived > options.hold_seconds:
        return Due.RELEASE | Due.COMMENT
    seen = max(request.heard, request.commented)
    return Due.COMMENT if now - seen > options.comment_seconds else Due.NOTHING
