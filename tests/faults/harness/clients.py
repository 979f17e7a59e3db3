"""Clients that note everything that they are sent."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp

from tests.faults.harness.verdict import Asked, Seen

LINE_BYTES: Final = 1 << 20


class Client:
    """One request on its way. `seen` grows as the answer comes."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.seen = Seen()
        self.begun = 0.0
        self.ended = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self, http: aiohttp.ClientSession, url: str, model: str) -> None:
        """Ask, in a task."""
        self._task = asyncio.create_task(self.run(http, url, model))

    async def end(self) -> Seen:
        """Wait for whatever end."""
        assert self._task is not None
        await self._task
        return self.seen

    async def run(self, http: aiohttp.ClientSession, url: str, model: str) -> None:
        """Ask, and read to whatever end. Raises nothing."""
        path = "chat/completions" if self.asked.chat else "completions"
        seen = self.seen
        self.begun = time.monotonic()
        try:
            body = self.asked.body(model)
            async with http.post(f"{url}/{path}", json=body) as answer:
                seen.status = answer.status
                if answer.status != 200:
                    seen.error = str((await answer.json())["error"]["code"])
                elif self.asked.stream:
                    await self._read(answer)
                else:
                    self._take(await answer.json(), "message")
                    seen.done = True
        except aiohttp.ClientConnectorError:
            seen.refused = True
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
            seen.broken = type(error).__name__
        self.ended = time.monotonic()
        seen.seconds = self.ended - self.begun

    async def _read(self, answer: aiohttp.ClientResponse) -> None:
        async for line in answer.content:
            if line.startswith(b":"):
                self.seen.comments += 1
            elif line.startswith(b"data: [DONE]"):
                self.seen.done = True
            elif line.startswith(b"data: "):
                self._take(json.loads(line[6:]), "delta")

    def _take(self, chunk: dict[str, Any], part: str) -> None:
        seen = self.seen
        if "error" in chunk:
            seen.error = str(chunk["error"]["code"])
            return
        seen.ids.add(chunk["id"])
        if chunk.get("usage"):
            seen.usages = [*seen.usages, chunk["usage"]["completion_tokens"]]
        for choice in chunk["choices"]:
            delta = choice[part] if self.asked.chat else {"content": choice["text"]}
            seen.roles += "role" in delta
            if delta.get("content"):
                seen.text += delta["content"]
                seen.tokens += 1
            if choice.get("finish_reason"):
                seen.finishes = [*seen.finishes, choice["finish_reason"]]


@contextlib.asynccontextmanager
async def session(key: str, seconds: float) -> AsyncIterator[aiohttp.ClientSession]:
    """For clients with a connection each, who wait for so long at most."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=seconds),
        # A kept connection to an edge that has died would look like a request that was taken.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        headers={"authorization": f"Bearer {key}"},
        read_bufsize=LINE_BYTES,
    ) as http:
        yield http


def any_request(chance: random.Random, name: str, most_tokens: int) -> Asked:
    """A request of some kind: mostly streams of chats, as in life."""
    stream = chance.random() < 0.9
    return Asked(
        content=name,
        tokens=chance.randint(1, most_tokens),
        chat=chance.random() < 0.8,
        stream=stream,
        usage=chance.random() < 0.5,
    )
