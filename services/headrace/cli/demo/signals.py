"""How signals end the demo: in order, or, to who insists, at once."""

import asyncio
import signal
from typing import Final

from headrace.runtime.lifecycle import Lifecycle

SAME_SECONDS: Final = 1.0
"""`make` and `timeout` hand a signal on to us that we got with our group: twice is no insisting."""


def listen(life: Lifecycle) -> None:
    """The first signal begins the end, one that comes later cancels the calling task.

    A terminal that closes counts as Ctrl-C. Replaces the lifecycle's own two handlers.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    began = 0.0

    def on_signal(number: signal.Signals) -> None:
        nonlocal began
        if not life.stopping.is_set():
            began = loop.time()
            life.stop(number.name)
        elif task is not None and loop.time() - began > SAME_SECONDS:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
