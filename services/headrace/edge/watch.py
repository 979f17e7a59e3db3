"""What is due for a live request, as time goes by: a function of plain values."""

from enum import Flag, auto
from typing import Final

from headrace.edge.answer import Phase
from headrace.edge.live import LiveRequest
from headrace.edge.options import EdgeOptions
from headrace.runtime.jetstream import ACK_WAIT_SECONDS

QUIET_SECONDS: Final = 3.0
"""A running request that is quiet for so long asks its worker whether a frame was lost."""

REDELIVERY_SECONDS: Final = ACK_WAIT_SECONDS + 2.0
"""The queue gives a lost request to another worker by then; if not, its message is gone."""


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


def due(request: LiveRequest, now: float, worker_heard: float, options: EdgeOptions) -> Due:
    """What is due for `request`, whose worker was heard last at `worker_heard` (0: never)."""
    answer = request.answer
    if answer.phase is Phase.ENDED:
        return Due.NOTHING
    if now >= request.deadline:
        return Due.DEADLINE
    what = Due.NOTHING
    if answer.phase is Phase.RUNNING:
        if now - max(request.heard, worker_heard) > options.worker_silence_seconds:
            return Due.LOST
        if now - request.heard > QUIET_SECONDS and now - request.resumed > QUIET_SECONDS:
            what |= Due.RESUME
    elif request.lost_at and now - request.lost_at > REDELIVERY_SECONDS:
        what |= Due.REPUBLISH
    if request.stream:
        waited = now - request.arrived
        if request.held and waited > options.hold_seconds:
            what |= Due.RELEASE | Due.COMMENT
        elif now - max(request.heard, request.commented) > options.comment_seconds:
            what |= Due.COMMENT
    return what
