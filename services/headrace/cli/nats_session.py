"""A short visit of a command to a nats-server, with the key of one of the daemons."""

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from headrace.runtime.nats.bus import Bus, BusOptions

if TYPE_CHECKING:
    from headrace.runtime.logging import Logger

CONNECT_SECONDS: Final = 4.0


class _Listener:
    """Takes the place of a log, and keeps the last reason."""

    def __init__(self) -> None:
        self.reason = ""

    def info(self, action: str, **fields: Any) -> None:
        """Nothing of interest."""

    def warning(self, action: str, **fields: Any) -> None:  # noqa: ARG002  # a log's signature
        """Why it did not work."""
        self.reason = str(fields.get("reason", ""))

    error = warning


async def connect(options: BusOptions, *, name: str, inbox: str) -> tuple[Bus, str]:
    """A bus, to be closed in any case, and why it is not connected; empty where it is.

    Raises ConfigError for a bad seed.
    """
    log = _Listener()
    bus = Bus(cast("Logger", log), name=name, inbox=inbox)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await bus.connect(options)
    except TimeoutError:
        return bus, log.reason or "no answer"
    return bus, ""
