"""The envelope in which a request travels from an edge to a worker."""

from typing import Final

import msgspec

from headrace.protocol.endpoints import Endpoint

VERSION: Final = 1
"""The version of the envelope. A worker that meets another one answers ``unsupported_version``."""

MAX_BODY_BYTES: Final = 7 * 1024 * 1024
"""NATS advises messages of at most 8 MiB; the rest is for the envelope and headers."""


class Preamble(msgspec.Struct, array_like=True, frozen=True):
    """The first fields of the envelope, the same in every version, so that any can be answered."""

    version: int
    id: str
    edge: str


class Request(msgspec.Struct, array_like=True, frozen=True):
    """One request.

    `body` is the client's JSON, opaque to all but the edge's check and the engine.
    `deadline` is in Unix seconds: after it nobody waits for the answer any more.
    `attempt` is the number of attempts that other messages of the same request have used up.
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
