"""How long a client wants its request to wait: said per request, or per key, or not at all."""

import math
from enum import StrEnum
from typing import Final

import msgspec

from headrace.edge.models.status import ModelStatus
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.plan import Interval, ModelPhase

HEADER: Final = "x-headrace-wait"

MAX_HEADER: Final = 32

COME_AGAIN: Final = 30
"""Seconds after which to try again, where nothing is known."""
MOST: Final = 120
"""OpenAI's clients don't try again at all after a longer time."""


class Keepalive(StrEnum):
    """What a stream that waits is sent now and then."""

    COMMENT = "comment"
    CHUNK = "chunk"
    """An empty chunk, for clients that can't bear comments."""
    OFF = "off"
    """Nothing, not even a status, until the answer begins."""


class WaitPolicy(msgspec.Struct, frozen=True):
    """How long to wait. The default waits up to the deadline, but not for a model that failed."""

    seconds: float = math.inf
    """In the queue; 0 is not at all while no worker is ready."""
    stubborn: bool = False
    """Whether to wait even for a model that has failed: an operator may bring it back."""


DEFAULT: Final = WaitPolicy()
HOLD: Final = WaitPolicy(stubborn=True)
FAIL: Final = WaitPolicy(seconds=0.0)


def parse(text: str) -> WaitPolicy:
    """``hold``, ``fail``, or a number of seconds. Raises ValueError."""
    word = text.strip().lower()
    if word == "hold":
        return HOLD
    if word == "fail":
        return FAIL
    try:
        seconds = float(word) if word.isascii() and len(word) <= MAX_HEADER else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError("must be `hold`, `fail`, or a number of seconds above 0")
    return WaitPolicy(seconds)


def asked(header: bytes | None, usual: WaitPolicy) -> WaitPolicy:
    """What a request's header says, or else what is usual for its key. Raises HeadraceError."""
    if header is None:
        return usual
    try:
        return parse(header.decode("latin-1"))
    except ValueError as error:
        raise HeadraceError(Code.INVALID_REQUEST, f"{HEADER} {error}.", param=HEADER) from None


def refusal(patience: WaitPolicy, standing: ModelStatus) -> Code | None:
    """Why a request need not be queued at all, None where it may."""
    if standing.phase is ModelPhase.FAILED:
        return None if patience.stubborn else Code.MODEL_FAILED
    return None if patience.seconds or standing.ready else Code.MODEL_NOT_READY


def sentence(code: Code, name: str, standing: ModelStatus, patience: WaitPolicy) -> str:
    """What the client is told with one of the codes of a model that cannot take its request."""
    reason = f": {standing.reason}" if standing.reason else ""
    if code is Code.MODEL_FAILED:
        return f"The model `{name}` cannot be started at the moment{reason}."
    if code is Code.WAIT_EXCEEDED:
        return f"No worker was free within {patience.seconds:g} s; the model is {standing.phase}."
    return f"The model `{name}` has no worker right now; it is {standing.phase}{reason}."


def retry_after(wait: Interval | None) -> int:
    """When to come again: in the middle of the time that it is likely to take."""
    if wait is None or not math.isfinite(wait.high):
        return COME_AGAIN
    return max(1, min(MOST, math.ceil((wait.low + wait.high) / 2)))
