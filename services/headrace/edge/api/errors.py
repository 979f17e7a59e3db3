"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``."""

from typing import Final

import msgspec

from headrace.protocol.errors import KINDS, Code, HeadraceError

MAX_MESSAGE: Final = 2000


class ErrorObject(msgspec.Struct):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    """What the body of every error answer is."""

    error: ErrorObject


class _EngineError(msgspec.Struct):
    """What is read of an engine's error: vLLM's and llama.cpp's differ in all but this."""

    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class _EngineBody(msgspec.Struct):
    error: _EngineError | str | None = None
    message: str = ""


_json: Final = msgspec.json.Encoder()
_engine: Final = msgspec.json.Decoder(_EngineBody, strict=False)


def body_of(error: HeadraceError) -> bytes:
    """The JSON body that tells `error`."""
    return _json.encode(ErrorBody(ErrorObject(error.message, error.type, error.param, error.code)))


def event_of(body: bytes) -> bytes:
    """The event that tells an error in a stream that has begun: openai's client raises it."""
    return b"data: " + body + b"\n\n"


def headers_of(error: HeadraceError) -> list[tuple[bytes, bytes]]:
    """The headers that tell clients whether and when to try again."""
    headers = [(b"content-type", b"application/json"), *error.headers]
    if error.retry_after is not None:
        # openai's client ignores a wait of over 120 s and would try again at once.
        headers.append((b"retry-after", b"%d" % min(error.retry_after, 120)))
    if not error.retryable:
        headers.append((b"x-should-retry", b"false"))
    return headers


def engine_error(status: int, body: bytes) -> tuple[int, bytes]:
    """The status and body for the client, of an engine that answered `status` with `body`.

    A refusal (4xx) is the client's business and keeps its status and message; a failure of the
    engine does not, for its text may tell of the inside of the cluster.
    """
    if not 400 <= status < 500 or status in (401, 403, 404):
        # The engine knows no keys and only its own model: such an answer is our fault, not the
        # client's, and a 404 would tell clients to give up on the model.
        error = HeadraceError(
            Code.ENGINE_FAILED, f"The model's engine failed with status {status}."
        )
        return error.status, body_of(error)
    message, kind, param, code = "", None, None, None
    try:
        told = _engine.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        told = _EngineBody()
    if isinstance(told.error, _EngineError):
        message, kind, param = told.error.message, told.error.type, told.error.param
        code = told.error.code if isinstance(told.error.code, str) else None
    elif isinstance(told.error, str):
        message = told.error
    message = message or told.message or f"The model's engine refused the request ({status})."
    return status, _json.encode(
        ErrorBody(
            ErrorObject(
                message[:MAX_MESSAGE],
                kind or KINDS[Code.INVALID_REQUEST].type,
                param,
                code or Code.INVALID_REQUEST,
            )
        )
    )
