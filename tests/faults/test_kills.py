"""Every part killed in turn under load, and every stream goes on unbroken (invariants 1 and 2)."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.path_kit import Demo, expected, running, stream

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.timeout(240)]

STREAMS = 20
TOKENS = 200
DELAY_MS = 20
BACK_SECONDS = 10.0
"""By then the system serves again, without help."""
END_SECONDS = 60.0
"""By then every stream has ended; far below the deadline of ten minutes."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, guard_module: Any) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("kills")
    options = ("--engine", "sim", "--workers", "2")
    with running(folder, *options, SIM_DELAY_MS=str(DELAY_MS)) as demo:
        yield demo


def kill(demo: Demo, part: str) -> None:
    if part != "ssh":
        demo.kill(part)
        return
    # The SSH connection: what sshd has forked for it, and the gate below that.
    for child in children(demo.pid("sshd")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The processes below `pid`, deepest last."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


@pytest.mark.parametrize("part", ["bridge", "ssh", "leaf", "hub", "worker-1"])
async def test_every_stream_goes_on_and_the_system_is_back(
    demo: Demo, part: str, record_property: Any
) -> None:
    info = demo.info()
    timeout = aiohttp.ClientTimeout(total=END_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        await serves(http, info, BACK_SECONDS)
        asked = [
            asyncio.create_task(stream(http, info, f"{part} {number}", TOKENS))
            for number in range(STREAMS)
        ]
        await asyncio.sleep(TOKENS * DELAY_MS / 1000 / 4)  # a quarter of the way
        kill(demo, part)
        await serves(http, info, BACK_SECONDS)
        outcomes = await asyncio.gather(*asked)
    for number, outcome in enumerate(outcomes):
        assert outcome.done, (outcome, demo.logs())
        assert outcome.text == expected(info, f"{part} {number}", TOKENS)
        assert not outcome.error
    slowest = max(outcome.seconds for outcome in outcomes)
    record_property(
        "told", f"{part} killed: {STREAMS} of {STREAMS} streams unbroken, {slowest:.1f} s at most"
    )


async def serves(http: aiohttp.ClientSession, info: dict[str, Any], seconds: float) -> None:
    """Wait until a fresh request is answered, each try with a little time of its own."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + 2.5):
                outcome = await stream(http, info, "again", 1)
            if outcome.done:
                return
        except TimeoutError:
            pass
        assert time.monotonic() < deadline, f"not back within {seconds} s"
        await asyncio.sleep(0.1)
