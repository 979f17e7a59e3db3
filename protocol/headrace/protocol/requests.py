"""The envelope in which a request travels from an edge to a worker."""

from typing import Final

import msgspec

from headrace.protocol.endpoints import Endpoint

VERSION: Final = 1
"""The version of the envelope. A worker that meets another one answers ``unsupported_version``."""

MAX_BODY_BYTES: Final = 7 * 1024 * 1024
"""NATS advises messages of at most 8 MiB; the rest is for the envelope and headers."""


ATTEMPTS: Final = 16
"""An edge leaves so many numbers of attempts to each message, more than a message is delivered."""


class Preamble(msgspec.Struct, array_like=True, frozen=True):
    """The first fields of the envelope, the same in every version, so that any can be answered."""

    version: int
    id: str
    edge: str


class Partial(msgspec.Struct, array_like=True, frozen=True):
    """What the client of a stream has already, so that another worker can go on after it.

    `after` is the number of bytes of chunks that the edge has taken in: whoever continues says it
    back in `Accepted`, and is refused if more has come meanwhile. `id` and `created` are those of
    the stream's events. `text` is all of the text so far, and `tokens` its token ids, four bytes
    each, little-endian, or empty where they are not known. `count` is the number of its tokens, as
    well as it is known: of ids, or else of events with text. `finish` is the reason for its end if
    that was sent, and only the usage may be missing; with `told` that was sent, too.
    """

    after: int
    id: str = ""
    created: int = 0
    text: str = ""
    tokens: bytes = b""
    count: int = 0
    finish: str = ""
    told: bool = False


class Request(msgspec.Struct, array_like=True, frozen=True):
    """One request.

    `body` is the client's JSON, opaque to all but the edge's check and the engine.
    `deadline` is in Unix seconds: after it nobody waits for the answer any more.
    `attempt` is a number above those of all attempts at other messages of the same request; with
    the number of the delivery added it is the attempt's own. `partial` is set in a continuation.
    `tenant` is a pseudonym (no name, no key). `trace` is a W3C ``traceparent`` or empty.
    """

    version: int
    id: str
    edge: str
    endpoint: Endpoint
    model: str
    stream: bool
    body: bytes
    deadline: float
    attempt: int = 0
    tenant: str = ""
    trace: str = ""
    partial: Partial | None = None
