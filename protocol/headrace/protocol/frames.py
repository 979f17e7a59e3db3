"""Frames: what a worker sends back to the edge.

Every frame carries the `attempt` it belongs to and its `seq` within that attempt, from 0 with no
gap. Frames are MessagePack arrays with a one-letter tag: the hot path is `Chunk`, which is the
engine's own bytes.
"""

import msgspec

from headrace.protocol.errors import Code


class Accepted(msgspec.Struct, array_like=True, frozen=True, tag="a"):
    """A worker has taken the request: always seq 0.

    `after` is that of the partial answer which it continues, 0 where it begins anew.
    """

    attempt: int
    seq: int
    worker: str
    cluster: str
    after: int = 0


class Head(msgspec.Struct, array_like=True, frozen=True, tag="h"):
    """The engine has answered with this HTTP status and media type."""

    attempt: int
    seq: int
    status: int
    content_type: str


class Chunk(msgspec.Struct, array_like=True, frozen=True, tag="c"):
    """Bytes of the engine's body; of a stream whole SSE events only, so that no cut tears one.

    `tokens` are the ids of the tokens in it, four bytes each, little-endian, where the engine tells
    them. Ids whose text the engine holds back come with the chunk that has the text.
    """

    attempt: int
    seq: int
    data: bytes
    tokens: bytes = b""


class Usage(msgspec.Struct, array_like=True, frozen=True):
    """Tokens as counted by the engine."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Timings(msgspec.Struct, array_like=True, frozen=True):
    """Seconds since the worker took the request: until the engine's first byte, and in total.

    `gpu` is the request's share of the time of the worker's GPUs, in seconds of one GPU.
    """

    first_byte: float = 0.0
    total: float = 0.0
    gpu: float = 0.0


class End(msgspec.Struct, array_like=True, frozen=True, tag="e"):
    """The answer is complete."""

    attempt: int
    seq: int
    usage: Usage
    timings: Timings


class Fail(msgspec.Struct, array_like=True, frozen=True, tag="f"):
    """The attempt has failed, or was cancelled. The `message` reaches the client.

    `usage` is what the engine had counted until then, as far as it tells; `retry_after`
    is in seconds, 0 where it is not known.
    """

    attempt: int
    seq: int
    code: Code
    message: str
    retryable: bool
    usage: Usage = Usage()
    timings: Timings = Timings()
    retry_after: int = 0


Frame = Accepted | Head | Chunk | End | Fail
