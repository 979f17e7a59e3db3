"""The client's JSON made the engine's: the model's name, usage at the end, perhaps token ids."""

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from headrace.protocol import resumable
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import HeadraceError
from headrace.runtime.jsonobject import parse

_encoder: Final = msgspec.json.Encoder()


class RequestBody(NamedTuple):
    """What the engine gets, and what of its answer only we have asked for."""

    data: bytes
    fields: dict[str, Raw]
    """The same, not yet encoded."""
    wants_usage: bool
    """Whether the client itself asked for the usage of its stream."""
    ids: bool = False
    """Whether we ask for token ids, and the client has not."""
    timings: bool = False
    """The same for the engine's timings, token by token."""


def rewrite(
    body: bytes,
    *,
    name: str,
    endpoint: Endpoint,
    stream: bool,
    ids: bool = False,
    timings: bool = False,
) -> RequestBody:
    """The engine's body. Values are carried as they are.

    With `ids` the engine is asked for token ids, with `timings` for its timings, where they are of
    use. Raises HeadraceError ``invalid_json`` for what is not a JSON object.
    """
    fields = parse(body)
    fields["model"] = Raw(_encoder.encode(name))
    if endpoint is Endpoint.EMBEDDINGS:
        fields.pop("stream", None)
        return RequestBody(_encoder.encode(fields), fields, wants_usage=False)
    # The envelope decided how the answer travels; a body that differs must not change it.
    fields["stream"] = Raw(b"true" if stream else b"false")
    if not stream:
        return RequestBody(_encoder.encode(fields), fields, wants_usage=False)
    ids = ids and resumable.may_tell_ids(fields)
    if ids:
        fields["return_token_ids"] = Raw(b"true")
    timings = timings and bytes(fields.get("timings_per_token", b"")) != b"true"
    if timings:
        fields["timings_per_token"] = Raw(b"true")
    options = stream_options(fields.get("stream_options"))
    if options is None:
        # Not what OpenAI's API allows: the engine says so better than we could.
        return RequestBody(
            _encoder.encode(fields), fields, wants_usage=True, ids=ids, timings=timings
        )
    wants_usage = bytes(options.get("include_usage", b"")) == b"true"
    options["include_usage"] = Raw(b"true")
    fields["stream_options"] = Raw(_encoder.encode(options))
    return RequestBody(_encoder.encode(fields), fields, wants_usage, ids, timings)


def stream_options(raw: Raw | None) -> dict[str, Raw] | None:
    """The members of ``stream_options``, or None where it is no object."""
    if raw is None or bytes(raw) == b"null":
        return {}
    try:
        return parse(raw)
    except HeadraceError:
        return None
