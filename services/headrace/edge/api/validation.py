"""What a body must be to be taken in: checked just enough to route it, and no more.

The body stays the client's JSON. Only the fields that decide where it goes are read.
"""

from typing import Annotated, Final

import msgspec

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError


class ParsedBody(msgspec.Struct, frozen=True):
    """What the edge knows of a body."""

    model: str
    stream: bool


_Model = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Chat(msgspec.Struct):
    model: _Model
    messages: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    stream: bool | None = False


class _Completion(msgspec.Struct):
    model: _Model
    prompt: msgspec.Raw
    stream: bool | None = False


class _Embedding(msgspec.Struct):
    model: _Model
    input: msgspec.Raw


_DECODERS: Final[dict[Endpoint, msgspec.json.Decoder[_Chat | _Completion | _Embedding]]] = {
    Endpoint.CHAT: msgspec.json.Decoder(_Chat),
    Endpoint.COMPLETIONS: msgspec.json.Decoder(_Completion),
    Endpoint.EMBEDDINGS: msgspec.json.Decoder(_Embedding),
}

FEW_IN_FLIGHT: Final = 8
MANY_IN_FLIGHT: Final = 32


def admit(endpoint: Endpoint, body: bytes) -> ParsedBody:
    """Read `body`, or raise HeadraceError ``invalid_json`` or ``unprocessable_request``."""
    try:
        asked = _DECODERS[endpoint].decode(body)
    except msgspec.ValidationError as error:
        # The text names a field and types, never a value.
        message = str(error)
        raise HeadraceError(Code.UNPROCESSABLE, message, param=_param(message)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HeadraceError(
            Code.INVALID_JSON,
            "We could not parse the JSON body of your request. Is it valid JSON?",
        ) from None
    return ParsedBody(asked.model, False if isinstance(asked, _Embedding) else bool(asked.stream))


def _param(message: str) -> str | None:
    """The field that msgspec's message is about: from ``$.field`` or ``field `name```."""
    for mark, end in (("`$.", "`"), ("required field `", "`")):
        if mark in message:
            return message.split(mark, 1)[1].split(end, 1)[0]
    return None


def lane_of(in_flight: int, edges: int = 1) -> str:
    """The lane of a tenant's next request, by how many it has in flight already.

    A light tenant's next request goes before a heavy tenant's hundredth. Each of several `edges`
    counts for itself: who has many has them everywhere, and what is many is divided by them. Who
    has few may be with one of them alone.
    """
    if in_flight < FEW_IN_FLIGHT:
        return "high"
    return "normal" if in_flight * edges < MANY_IN_FLIGHT else "low"


def require_json(content_type: bytes | None) -> None:
    """Raise ``unsupported_media_type`` unless the body may be JSON; a missing type may be."""
    if content_type is None:
        return
    media = content_type.split(b";", 1)[0].strip().lower()
    if media != b"application/json" and not media.endswith(b"+json"):
        raise HeadraceError(
            Code.UNSUPPORTED_MEDIA_TYPE, "Send JSON, as `Content-Type: application/json`."
        )
