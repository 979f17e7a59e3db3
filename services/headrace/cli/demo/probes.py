"""Looking whether a part of the demo does its work by now."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from headrace.cli.demo.component import Probe
from headrace.cli.http import HttpError, get, get_json

EVERY_SECONDS = 0.1


def listens(port: int) -> Probe:
    """Whether somebody accepts connections on `port`."""

    async def probe() -> bool:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        return False

    return probe


def exists(path: Path) -> Probe:
    """Whether there is something at `path`."""

    async def probe() -> bool:
        return await asyncio.to_thread(path.exists)

    return probe


def answers(url: str) -> Probe:
    """Whether `url` answers with 200."""

    async def probe() -> bool:
        try:
            status, _ = await asyncio.to_thread(get, url)
        except HttpError:
            return False
        return status == 200

    return probe


def linked(monitor_port: int) -> Probe:
    """Whether the hub has its leaf link."""

    async def probe() -> bool:
        try:
            about = await asyncio.to_thread(get_json, f"http://127.0.0.1:{monitor_port}/leafz")
        except HttpError:
            return False
        return bool(about.get("leafnodes"))

    return probe


def workers_ready(base_url: str, key: str, count: int) -> Probe:
    """Whether `count` workers of the only model say that they are ready."""

    async def probe() -> bool:
        try:
            page: Any = await asyncio.to_thread(get_json, f"{base_url}/models", key)
        except HttpError:
            return False
        return any(model["headrace"]["workers"] >= count for model in page["data"])

    return probe


def listed(base_url: str, key: str) -> Probe:
    """Whether the service offers any model."""

    async def probe() -> bool:
        try:
            page: Any = await asyncio.to_thread(get_json, f"{base_url}/models", key)
        except HttpError:
            return False
        return bool(page["data"])

    return probe


async def until(probe: Probe) -> None:
    """Wait for it."""
    while not await probe():  # noqa: ASYNC110  # another process's state has no event
        await asyncio.sleep(EVERY_SECONDS)
