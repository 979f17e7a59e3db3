"""A short visit to the leaf with a key of the cluster's, as scaler and workers come to it."""

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from headrace.protocol import names, subjects
from headrace.protocol.names import LANES, Slug
from headrace.runtime.bus import Bus, BusError, BusOptions
from headrace.runtime.jetstream import JetStream, JetStreamError

if TYPE_CHECKING:
    from headrace.runtime.logging import Logger

CONNECT_SECONDS: Final = 4.0
ANSWER_SECONDS: Final = 3.0

_NO_STREAM: Final = 10059
"""JetStream's code where the stream itself is not there."""


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


async def visit(options: BusOptions, *, worker: bool) -> str:
    """Why one cannot connect with this key; empty where one can. Raises ConfigError."""
    bus, reason = await _connect(options, worker=worker)
    await bus.close()
    return reason


async def ask_hub(options: BusOptions, model: Slug) -> tuple[str, bool]:
    """Why the hub's queue gives no answer, and whether there is a queue. Raises ConfigError."""
    bus, reason = await _connect(options, worker=False)
    try:
        if reason:
            return reason, False
        stream = JetStream(bus, subjects.DOMAIN, timeout=ANSWER_SECONDS)
        await stream.consumer_info(model, LANES[0])
    except JetStreamError as error:
        return "", error.code != _NO_STREAM
    except BusError as error:
        return f"{type(error).__name__}", False
    else:
        return "", True
    finally:
        await bus.close()


async def _connect(options: BusOptions, *, worker: bool) -> tuple[Bus, str]:
    who = names.new_process_id()
    inbox = subjects.worker_inbox(who) if worker else subjects.scaler_inbox(who)
    log = _Listener()
    bus = Bus(cast("Logger", log), name=f"doctor-{who}", inbox=inbox)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await bus.connect(options)
    except TimeoutError:
        return bus, log.reason or "no answer"
    return bus, ""
