"""A steady load of streams in the background of a test, each judged against what it must say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from headrace.protocol.errors import Code
from tests.support.running_demo import Outcome, expected, stream


@contextlib.asynccontextmanager
async def http_session(seconds: float) -> AsyncIterator[aiohttp.ClientSession]:
    """A session without a limit on connections, whose requests may take so long."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        yield http


class Load:
    """One stream after `every` seconds, each of `tokens` tokens, until it is stopped."""

    def __init__(
        self, http: aiohttp.ClientSession, info: dict[str, Any], *, every: float, tokens: int
    ) -> None:
        self.asked: list[asyncio.Task[Outcome]] = []
        self._http = http
        self._info = info
        self._every = every
        self._tokens = tokens

    async def run(self) -> None:
        """Ask, until cancelled."""
        while True:
            number = len(self.asked)
            self.asked.append(
                asyncio.create_task(stream(self._http, self._info, f"load {number}", self._tokens))
            )
            await asyncio.sleep(self._every)

    async def outcomes(self) -> list[Outcome]:
        """All of them, when they have ended."""
        return await asyncio.gather(*self.asked)

    async def failed(self) -> list[str]:
        """How those ended that were not answered whole and right; none said anything wrong."""
        failed = []
        for number, outcome in enumerate(await self.outcomes()):
            text = expected(self._info, f"load {number}", self._tokens)
            if outcome.done and not outcome.error:
                assert outcome.text == text
                continue
            assert text.startswith(outcome.text)
            assert outcome.error in set(Code), outcome
            failed.append(f"{number}: {outcome.error} after {len(outcome.text)} characters")
        return failed


@contextlib.asynccontextmanager
async def load(
    http: aiohttp.ClientSession, info: dict[str, Any], *, every: float, tokens: int
) -> AsyncIterator[Load]:
    """A load for as long as the context, which ends when all that was asked has ended."""
    made = Load(http, info, every=every, tokens=tokens)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await made.outcomes()
