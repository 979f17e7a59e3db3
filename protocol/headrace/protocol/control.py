"""Control messages: what an edge tells the worker that serves one of its requests."""

import msgspec


class Cancel(msgspec.Struct, array_like=True, frozen=True, tag="x"):
    """Nobody waits for this request any more: stop the engine's work on it."""

    request: str


class Resume(msgspec.Struct, array_like=True, frozen=True, tag="r"):
    """Send the frames of `attempt` from `next_seq` on again.

    A worker that has them no more answers with a `Fail`, so that silence never lasts.
    """

    request: str
    edge: str
    attempt: int
    next_seq: int


Control = Cancel | Resume
