"""When to cut a pipe that is open and dead. Plain values in, a verdict out.

A link can stay open for good with nobody at its other end: a stopped gate, a firewall that forgot
the connection, a server that hangs. The hub's server and the cluster's ping each other, so bytes
come from the cluster's side every few seconds; when they don't, the pipe is cut and the hub's
server dials again.
"""

from enum import Enum, auto
from typing import Final, NamedTuple

TICK_SECONDS: Final = 0.5
"""How often a pipe is looked at."""

LATE_SECONDS: Final = 2.0
"""A look so long after the one before finds bytes that nobody had the time to read: it does not
count."""

REPEAT_SECONDS: Final = 60.0
"""A second cut so soon after the first says that the connection itself is dead."""


MOST_PATIENCE: Final = 6.0
"""So many times its usual time a start may take, after several that took too long."""


class LinkState(Enum):
    """What to do about a pipe."""

    KEEP = auto()
    CUT_SESSION = auto()
    CUT_CONNECTION = auto()


class SilenceLimits(NamedTuple):
    """How long a pipe may be silent, in seconds."""

    silence: float
    greeting: float


class LinkActivity(NamedTuple):
    """What was heard of a cluster through one pipe. Times are a monotonic clock's, in seconds."""

    since: float
    """When it was last heard, or began to be listened to."""
    received: int = 0
    """Bytes heard so far."""


def patience(failures: int) -> float:
    """How many times its usual time the next start may take, after so many that took too long.

    A service node that is too busy to start a gate in time is not helped by being asked for another
    one each time: what it has done so far would be thrown away for ever.
    """
    return min(2.0**failures, MOST_PATIENCE)


def listen(before: LinkActivity, *, now: float, received: int, deaf: bool) -> LinkActivity:
    """What has been heard by `now`, when `received` bytes have come in all.

    `deaf` says that nobody listened since `before`: reading had stopped because the hub was slow,
    or the last look was long ago. Silence does not count then.
    """
    if deaf or received != before.received:
        return LinkActivity(now, received)
    return before


def judge(
    hearing: LinkActivity, *, now: float, last_cut: float | None, limits: SilenceLimits
) -> LinkState:
    """Whether a pipe lives. `last_cut` tells when one of the same connection was cut, if so."""
    limit = limits.silence if hearing.received else limits.greeting
    if now - hearing.since <= limit:
        return LinkState.KEEP
    if last_cut is not None and now - last_cut <= REPEAT_SECONDS:
        return LinkState.CUT_CONNECTION
    return LinkState.CUT_SESSION
