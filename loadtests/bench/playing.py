"""How a measurement runs: it ends at a signal like at its own end, and leaves no process behind."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from headrace.cli.demo import processes
from loadtests.bench.machine import raise_file_limit

T = TypeVar("T")


def play(measurement: Coroutine[Any, Any, T]) -> T:
    """Run it. Raises CancelledError where a signal ended it, after everything was put away."""
    raise_file_limit()
    # What a service of others has started is ours to end when the service is gone.
    processes.adopt_orphans()
    try:
        return uvloop.run(_until_told(measurement))
    finally:
        processes.kill_descendants()


async def _until_told(measurement: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(measurement)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
