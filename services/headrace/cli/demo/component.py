"""One part of the demo as plain values: what to start, where it is, and how one sees it work."""

from collections.abc import Awaitable, Callable

import msgspec

Probe = Callable[[], Awaitable[bool]]


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A process that the demo keeps running."""

    name: str
    argv: tuple[str, ...]
    address: str
    """Where it listens, for people."""
    what: str
    """What it is, for people."""
    probe: Probe
    """Whether it does its work by now."""
    env: dict[str, str] = {}
    after: Probe | None = None
    """What to wait for, within reason, before the first start: it saves a failed first try."""
    stop_seconds: float = 3.0
    """How long it may take to end when asked to."""
