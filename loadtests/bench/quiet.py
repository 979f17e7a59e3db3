"""Waiting until what was given up is over, so that it does not burden whoever is next."""

import asyncio
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Final

from headrace.cli.http import HttpError, get
from loadtests.bench import meter

LIMIT_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.3
BUSY: Final = 0.25
"""Of a core: above this somebody is still at work."""

_COUNTS: Final = re.compile(rb"^vllm:num_requests_\w+\S* (\d+)", re.MULTILINE)


async def calm(engine: str, roots: Mapping[str, int], seconds: float = LIMIT_SECONDS) -> bool:
    """Wait until the engine at this URL works on nothing, and nor do the processes in `roots`.

    False where they still do after so many seconds.
    """
    until = perf_counter() + seconds
    while perf_counter() < until:
        before = meter.look(roots)
        await asyncio.sleep(LOOK_SECONDS)
        used = sum(meter.spent(before, meter.look(roots)).values()) / LOOK_SECONDS
        if used < BUSY and await asyncio.to_thread(idle, engine):
            return True
    return False


def idle(engine: str) -> bool:
    """Whether the engine says that nothing runs or waits in it."""
    try:
        _, page = get(f"{engine}/metrics")
    except HttpError:
        return False
    return not any(map(int, _COUNTS.findall(page)))
