"""The most that a request can cost, and the body that can't cost more. Pure functions.

A token of text is at least a byte, so a body has at most as many tokens as bytes; what is no text
never leaves (`headrace.worker.provider.rewrite`). What a provider adds is `overhead_tokens`.
"""

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from headrace.external.model import ExternalModel
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.runtime.jsonobject import parse

_encoder: Final = msgspec.json.Encoder()

LIMITS: Final = ("max_completion_tokens", "max_tokens")
"""What clients call the limit of an answer."""


class BoundedBody(NamedTuple):
    """A body, and what it can cost at most, in millionths of the currency."""

    body: bytes
    cost: int


def bound(model: ExternalModel, endpoint: Endpoint, body: bytes) -> BoundedBody:
    """Put the limit of the answer into `body`. Raises ``unprocessable_request``, ``invalid_json``.

    Worker and edge may have read different versions of a file: the worker goes by what is in the
    body, or by its own file where that allows less.
    """
    prompt = len(body) + len(model.request.system_prompt.encode()) + model.request.overhead_tokens
    if endpoint is not Endpoint.CHAT:
        return BoundedBody(body, model.price.cost(prompt, 0))
    fields = parse(body)
    most = output_limit(fields, model.request.max_output_tokens)
    for name in LIMITS:
        fields.pop(name, None)
    fields[LIMITS[0]] = Raw(b"%d" % most)
    return BoundedBody(_encoder.encode(fields), model.price.cost(prompt, most))


def output_limit(fields: dict[str, Raw], most: int) -> int:
    """How long an answer may be: as the client says, and at most `most` tokens."""
    for name in LIMITS:
        raw = bytes(fields.get(name, b"null"))
        if raw == b"null":
            continue
        if not raw.isdigit() or len(raw) > 12 or int(raw) < 1:
            raise HeadraceError(
                Code.UNPROCESSABLE, f"`{name}` must be a whole number from 1 on.", param=name
            )
        most = min(most, int(raw))
    return most
