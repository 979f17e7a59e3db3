"""Control messages: what an edge tells the worker that serves one of its requests."""

from typing import Final

import msgspec


class Cancel(msgspec.Struct, array_like=True, frozen=True, tag="x"):
    """Nobody waits for this request any more, or for this `attempt` at it (0: for any): stop the
    engine's work on it.

    A worker that had it answers with a `Fail` whose code is ``cancelled``, so that the edge knows
    that it need not say so again.
    """

    request: str
    attempt: int = 0


class Resume(msgspec.Struct, array_like=True, frozen=True, tag="r"):
    """Send the frames of `attempt` from `next_seq` on again.

    A worker that has them no more answers with a `Fail`, so that silence never lasts.
    """

    request: str
    edge: str
    attempt: int
    next_seq: int


class Credit(msgspec.Struct, array_like=True, frozen=True, tag="c"):
    """The client has read on: chunks of `attempt` may be sent up to `limit` bytes in all.

    A worker begins with `WINDOW_BYTES`, and reads no more from its engine when it has used that up.
    The numbers are sums, so that a lost message does no harm once the next one comes.
    """

    request: str
    attempt: int
    limit: int


class Gone(msgspec.Struct, array_like=True, frozen=True, tag="g"):
    """This edge is gone, and with it everybody who waited for an answer through it: stop all work
    on its requests. Said to all workers."""

    edge: str


WINDOW_BYTES: Final = 1024 * 1024
"""What may be on the way to a client that reads slowly. Some four thousand tokens: most streams
end before their edge has said anything."""

Control = Cancel | Resume | Credit | Gone
