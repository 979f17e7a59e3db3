"""What a provider's answer means to our client: never its words about us. Pure functions."""

import re
from enum import Enum, auto
from typing import Final, NamedTuple

import msgspec

from headrace.protocol.errors import Code, HeadraceError

MAX_WAIT: Final = 3600.0
MAX_MESSAGE: Final = 500

AWAY: Final = "The provider of this model cannot answer right now; try again later."
BUSY: Final = "The provider of this model wants fewer requests right now; try again later."
REFUSES: Final = "The provider of this model refuses this site; its operators know."
FAILED: Final = "The provider of this model failed before the answer was complete."


class ProviderError(Enum):
    """What the worker makes of it."""

    NONE = auto()
    REFUSED = auto()
    """Our key or our configuration: an operator's business."""
    BUSY = auto()
    AWAY = auto()


class ErrorMapping(NamedTuple):
    """What became of a request by the status of its answer."""

    trouble: ProviderError
    error: HeadraceError | None = None


def verdict(status: int, retry_after: str) -> ErrorMapping:
    """What `status` means. Refusals that are the client's business are no trouble, and no error."""
    if 200 <= status < 300:
        return ErrorMapping(ProviderError.NONE)
    wait = seconds(retry_after)
    if status == 429:
        return ErrorMapping(ProviderError.BUSY, _later(BUSY, wait))
    if status >= 500 or status in (408, 409):
        return ErrorMapping(ProviderError.AWAY, _later(AWAY, wait))
    if status in (400, 413, 422):
        return ErrorMapping(ProviderError.NONE)
    # 401 and 403 are about our key, 404 about the model; and nobody is followed elsewhere.
    return ErrorMapping(
        ProviderError.REFUSED, HeadraceError(Code.PROVIDER_REFUSED, REFUSES, retryable=False)
    )


def _later(why: str, wait: float) -> HeadraceError:
    return HeadraceError(
        Code.PROVIDER_UNAVAILABLE, why, retryable=False, retry_after=max(1, round(wait)) or None
    )


def seconds(retry_after: str) -> float:
    """The seconds of a ``Retry-After``; 0 for a date, or for nothing that is known."""
    text = retry_after.strip()
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text, re.ASCII) is None:
        return 0.0
    return min(MAX_WAIT, float(text))


class _ErrorObject(msgspec.Struct):
    message: str = ""
    param: str | None = None
    code: str | int | None = None


class _Body(msgspec.Struct):
    error: _ErrorObject | None = None


_body: Final = msgspec.json.Decoder(_Body)

# Whatever looks like a key, the name of an account, or an address of one.
_OURS: Final = re.compile(
    r"\b(?:sk|org|proj|key|acct|user|req)[-_][A-Za-z0-9*._-]+|https?://\S+|[0-9a-fA-F-]{20,}"
)


def refusal(status: int, answer: bytearray, key: str) -> bytearray:
    """The body of a refusal that is the client's business, without what is ours in it."""
    try:
        told = _body.decode(answer).error or _ErrorObject()
    except (msgspec.DecodeError, ValueError, RecursionError):
        told = _ErrorObject()
    message = told.message.replace(key, "…") if key else told.message
    message = _OURS.sub("…", message)[:MAX_MESSAGE]
    code = told.code if isinstance(told.code, str) and told.code.isidentifier() else None
    param = told.param if told.param and re.fullmatch(r"[\w.\[\]]{1,80}", told.param) else None
    about = {
        "message": message or f"The provider refused the request ({status}).",
        "type": "invalid_request_error",
        "param": param,
        "code": code or Code.INVALID_REQUEST,
    }
    return bytearray(msgspec.json.encode({"error": about}))
