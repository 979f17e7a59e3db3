"""Every part killed, stopped or restarted in turn under load: every stream goes on unbroken
(invariants 1 and 2)."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from headrace.cli.demo.processes import descendants
from tests.support.running_demo import Demo, expected, running, stream

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.timeout(240)]

STREAMS = 50
DELAY_MS = 20
BACK_SECONDS = 10.0
"""By then the system serves again, without help."""
END_SECONDS = 90.0
"""By then every stream has ended; far below the deadline of ten minutes."""
SHORT, LONG = 200, 600
"""Tokens of a stream: for 4 s, and for 12 s."""
CUT_SECONDS = 20.0
LEFT_SECONDS = 5.0

Blow = Callable[[Demo], Awaitable[None]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, guard_module: Any) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("kills")
    options = ("--engine", "sim", "--workers", "2")
    environ = {"SIM_DELAY_MS": str(DELAY_MS), "HEADRACE_WORKER__SLOTS": str(STREAMS)}
    with running(folder, *options, **environ) as demo:
        yield demo


def killed(part: str) -> Blow:
    """SIGKILL: it is started again by itself."""

    async def blow(demo: Demo) -> None:
        demo.kill(part)

    return blow


def restarted(part: str) -> Blow:
    """SIGTERM: it ends as it would for a restart, which comes by itself."""

    async def blow(demo: Demo) -> None:
        os.kill(demo.pid(part), signal.SIGTERM)

    return blow


async def session_killed(demo: Demo) -> None:
    """What sshd has forked for the connection, and the gate below that."""
    signal_all(descendants(demo.pid("sshd")), signal.SIGKILL)


async def cut(demo: Demo) -> None:
    """The SSH connection is silent for a while, and no new one comes about."""
    sshd = demo.pid("sshd")
    stopped = [sshd, *descendants(sshd)]
    signal_all(stopped, signal.SIGSTOP)
    try:
        await asyncio.sleep(CUT_SECONDS)
    finally:
        signal_all(stopped, signal.SIGCONT)


async def out_of_walltime(demo: Demo) -> None:
    """As Slurm ends a job whose time is over: SIGTERM, and soon SIGKILL for all of it."""
    worker = demo.pid("worker-1")
    job = [worker, *descendants(worker)]
    os.kill(worker, signal.SIGTERM)
    await asyncio.sleep(LEFT_SECONDS)
    signal_all(job, signal.SIGKILL)


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


BLOWS = {
    "bridge killed": (killed("bridge"), SHORT),
    "SSH session killed": (session_killed, SHORT),
    f"SSH cut for {CUT_SECONDS:.0f} s": (cut, LONG),
    "leaf killed": (killed("leaf"), SHORT),
    "leaf restarted": (restarted("leaf"), SHORT),
    "hub killed": (killed("hub"), SHORT),
    "hub restarted": (restarted("hub"), SHORT),
    "worker killed": (killed("worker-1"), SHORT),
    f"worker with {LEFT_SECONDS:.0f} s of walltime left": (out_of_walltime, LONG),
}


@pytest.mark.parametrize("name", BLOWS)
async def test_every_stream_goes_on_and_the_system_is_back(
    demo: Demo, name: str, record_property: Any
) -> None:
    blow, tokens = BLOWS[name]
    info = demo.info()
    timeout = aiohttp.ClientTimeout(total=END_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        await serves(http, info, BACK_SECONDS)
        asked = [
            asyncio.create_task(stream(http, info, f"{name} {number}", tokens))
            for number in range(STREAMS)
        ]
        await asyncio.sleep(SHORT * DELAY_MS / 1000 / 4)  # in the midst of every stream
        await blow(demo)
        await serves(http, info, BACK_SECONDS)
        outcomes = await asyncio.gather(*asked)
    for number, outcome in enumerate(outcomes):
        assert outcome.done, (outcome, demo.logs())
        assert outcome.text == expected(info, f"{name} {number}", tokens)
        assert not outcome.error
    slowest = max(outcome.seconds for outcome in outcomes)
    record_property(
        "told", f"{name}: {STREAMS} of {STREAMS} streams unbroken, {slowest:.1f} s at most"
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
