"""The client's JSON made the engine's: the model's name, and usage at the end of a stream."""

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError

_object: Final = msgspec.json.Decoder(dict[str, Raw])
_encoder: Final = msgspec.json.Encoder()


class Body(NamedTuple):
    """What the engine gets, and whether the client itself asked for the usage of its stream."""

    data: bytes
    wants_usage: bool


def rewrite(body: bytes, *, name: str, endpoint: Endpoint, stream: bool) -> Body:
    """The engine's body. Values are carried as they are; a key that came twice counts once.

    Raises HeadraceError ``invalid_json`` for what is not a JSON object.
    """
    try:
        fields = _object.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise HeadraceError(Code.INVALID_JSON, "The body is not a JSON object.") from error
    fields["model"] = Raw(_encoder.encode(name))
    if endpoint is Endpoint.EMBEDDINGS:
        fields.pop("stream", None)
        return Body(_encoder.encode(fields), wants_usage=False)
    # The envelope decided how the answer travels; a body that differs must not change it.
    fields["stream"] = Raw(b"true" if stream else b"false")
    if not stream:
        return Body(_encoder.encode(fields), wants_usage=False)
    options = stream_options(fields.get("stream_options"))
    if options is None:
        # Not what OpenAI's API allows: the engine says so better than we could.
        return Body(_encoder.encode(fields), wants_usage=True)
    wants_usage = bytes(options.get("include_usage", b"")) == b"true"
    options["include_usage"] = Raw(b"true")
    fields["stream_options"] = Raw(_encoder.encode(options))
    return Body(_encoder.encode(fields), wants_usage)


def stream_options(raw: Raw | None) -> dict[str, Raw] | None:
    """The members of ``stream_options``, or None where it is no object."""
    if raw is None or bytes(raw) == b"null":
        return {}
    try:
        return _object.decode(raw)
    except (msgspec.DecodeError, ValueError):
        return None
