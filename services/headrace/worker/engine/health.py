"""Whether the engine is well: before the first request, and from then on."""

import asyncio
from typing import Final

import msgspec

from headrace.protocol.endpoints import ENGINE_PATHS, Endpoint
from headrace.runtime.engine import EngineOptions
from headrace.worker.http_client import EngineClient

POLL_SECONDS: Final = 0.1
"""How often a loading engine is asked: nothing to a machine, and its start is not delayed."""


LOADING_PROBE_SECONDS: Final = 1.0
"""A probe that meets an engine before it serves may stay unanswered: the next one is near."""

REFUSALS: Final = 5
"""So often in a row must an engine refuse every kind of request before it is believed."""


def warm_ups(name: str) -> list[tuple[Endpoint, bytes]]:
    """The smallest real requests, in the order in which to try them."""
    bodies: dict[Endpoint, dict[str, object]] = {
        Endpoint.CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
        Endpoint.COMPLETIONS: {"prompt": "Hi", "max_tokens": 1},
        Endpoint.EMBEDDINGS: {"input": "Hi"},
    }
    return [(each, msgspec.json.encode({"model": name} | body)) for each, body in bodies.items()]


class EngineRefusedError(Exception):
    """The engine is healthy and answers no kind of request; the text tells with which statuses."""


async def until_ready(client: EngineClient, options: EngineOptions, name: str) -> Endpoint:
    """Wait until the engine is healthy and has answered one real request; which kind it was.

    Healthy alone is not enough: an engine may say so before it can generate. Raises TimeoutError,
    or EngineRefusedError where it is clear that waiting won't help.
    """
    refusals = 0
    async with asyncio.timeout(options.start_seconds):
        while True:
            if await client.healthy(options.health_path, LOADING_PROBE_SECONDS):
                statuses = []
                for endpoint, body in warm_ups(name):
                    path = ENGINE_PATHS[endpoint]
                    statuses.append(await client.ask(path, body, options.start_seconds))
                    if statuses[-1] == 200:
                        return endpoint
                refusals = refusals + 1 if all(400 <= s < 500 for s in statuses) else 0
                if refusals == REFUSALS:
                    raise EngineRefusedError(", ".join(map(str, statuses)))
            await asyncio.sleep(POLL_SECONDS)


async def until_hung(client: EngineClient, options: EngineOptions) -> None:
    """Return when the engine has left too many probes in a row unanswered."""
    failures = 0
    while failures < options.probe_failures:
        await asyncio.sleep(options.probe_seconds)
        well = await client.healthy(options.health_path, options.probe_timeout_seconds)
        failures = 0 if well else failures + 1
