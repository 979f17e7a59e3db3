"""What the parent of several edge processes passes on to them."""

import asyncio
import sys

import pytest

from headrace.edge import supervisor
from headrace.runtime import logging
from headrace.runtime.lifecycle import Lifecycle

CHILD = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("up", flush=True)
for _ in range(2):
    signal.sigwait([signal.SIGTERM])
raise SystemExit(5)
"""


async def started() -> tuple[asyncio.subprocess.Process, "asyncio.Task[int]"]:
    """A child that ends when it is told for the second time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    return process, asyncio.create_task(process.wait())


async def test_a_child_is_told_to_be_quick_when_the_parent_is() -> None:
    process, exited = await started()
    life = Lifecycle(logging.setup("test"), 60)
    life.stop("SIGTERM")
    asyncio.get_running_loop().call_later(0.3, life.hurry, "SIGTERM")
    await supervisor._end(process, exited, life)
    assert await exited == 5


async def test_a_child_that_stays_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SPARE_SECONDS", 0.1)
    process, exited = await started()
    life = Lifecycle(logging.setup("test"), 0.2)
    life.stop("SIGTERM")
    await supervisor._end(process, exited, life)
    assert await exited == -9
