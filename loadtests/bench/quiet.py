"""Waiting until what was given up is over, so that it does not burden whoever is next."""

import asyncio
import re
from typing import Final

from headrace.cli.http import HttpError, get
from loadtests.bench.parts import wait

IDLE_SECONDS: Final = 60.0

_COUNTS: Final = re.compile(rb"^vllm:num_requests_\w+\S* (\d+)", re.MULTILINE)


async def idle(engine: str, seconds: float = IDLE_SECONDS) -> None:
    """Wait until the engine at this URL works on nothing. Raises NotServing."""

    async def nothing_runs() -> bool:
        try:
            _, page = await asyncio.to_thread(get, f"{engine}/metrics")
        except HttpError:
            return False
        return not any(map(int, _COUNTS.findall(page)))

    await wait(nothing_runs, "an idle engine", seconds)
