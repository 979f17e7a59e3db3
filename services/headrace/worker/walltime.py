"""The end of the walltime: the worker begins to drain in time, though nobody has told it to."""

import asyncio
import time
from typing import Final

from headrace.protocol.state import MARGIN_SECONDS
from headrace.runtime.lifecycle import Lifecycle
from headrace.worker.options import CommonOptions

REASON: Final = "walltime"
"""Why the worker stops then."""


def drain_at(options: CommonOptions) -> float | None:
    """When to begin to drain, in Unix seconds; None where there is no end."""
    if not options.ends_at:
        return None
    return options.ends_at - options.drain_seconds - MARGIN_SECONDS


def is_over(options: CommonOptions) -> bool:
    """Whether nothing can be begun any more."""
    at = drain_at(options)
    return at is not None and at <= time.time()


async def watch(options: CommonOptions, life: Lifecycle) -> None:
    """Ask the worker to stop when it is time."""
    at = drain_at(options)
    if at is not None:
        await asyncio.sleep(max(0.0, at - time.time()))
        life.stop(REASON)
