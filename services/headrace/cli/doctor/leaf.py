"""A short visit to the leaf with a key of the cluster's, as scaler and workers come to it."""

from typing import Final

from headrace.cli import nats_session
from headrace.protocol import names, subjects
from headrace.protocol.names import LANES, Slug
from headrace.runtime.nats.bus import Bus, BusError, BusOptions
from headrace.runtime.nats.jetstream import JetStream, JetStreamError

ANSWER_SECONDS: Final = 3.0

_NO_STREAM: Final = 10059
"""JetStream's code where the stream itself is not there."""


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
    return await nats_session.connect(options, name=f"doctor-{who}", inbox=inbox)
