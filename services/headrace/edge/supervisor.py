"""Several edge processes on one port: started, watched and ended by a small parent.

Each process binds the port itself (``SO_REUSEPORT``), so the kernel spreads connections evenly and
no process hands sockets to another.
"""

import asyncio
import os
import signal
import sys
import tempfile
from typing import Final

from prometheus_client import multiprocess

from headrace.edge.options import EdgeOptions
from headrace.runtime.lifecycle import Lifecycle

RESTART_SECONDS: Final = 1.0
"""A process that died is replaced after this pause, so that a crash loop does not burn a core."""

SPARE_SECONDS: Final = 5.0
"""What a process may take after its drain to end what is left."""


async def supervise(command: list[str], options: EdgeOptions, life: Lifecycle) -> int:
    """Keep `options.processes` processes running `command` until told to stop."""
    from headrace.edge.server import listen

    # Without sharing, so that another service on the port is noticed here, once.
    listen(options.host, options.port, shared=False).close()
    with tempfile.TemporaryDirectory(prefix="headrace-edge-") as shared:
        environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": shared}
        async with asyncio.TaskGroup() as tasks:
            for number in range(options.processes):
                tasks.create_task(_keep(command, environ, life), name=f"edge-{number}")
            life.ready()
    return 0


async def _keep(command: list[str], environ: dict[str, str], life: Lifecycle) -> None:
    stopping = asyncio.create_task(life.stopping.wait())
    while not life.stopping.is_set():
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdout=sys.stdout, stderr=sys.stderr, preexec_fn=_die_with_parent
        )
        exited = asyncio.create_task(process.wait())
        await asyncio.wait([stopping, exited], return_when=asyncio.FIRST_COMPLETED)
        if not exited.done():
            await _end(process, exited, life)
        await exited
        multiprocess.mark_process_dead(process.pid, environ["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
        if not life.stopping.is_set():
            life.log.error("process_died", pid=process.pid, exit_code=process.returncode)
            await asyncio.wait([stopping], timeout=RESTART_SECONDS)


async def _end(
    process: asyncio.subprocess.Process, exited: "asyncio.Task[int]", life: Lifecycle
) -> None:
    """Pass on what we are told: to drain, and then perhaps to be quick. Kill what stays."""
    hurried = asyncio.create_task(life.hurried.wait())
    process.send_signal(signal.SIGTERM)
    await asyncio.wait(
        [exited, hurried],
        timeout=life.drain_left + SPARE_SECONDS,
        return_when=asyncio.FIRST_COMPLETED,
    )
    if hurried.done() and not exited.done():
        process.send_signal(signal.SIGTERM)
        await asyncio.wait([exited], timeout=life.drain_left + SPARE_SECONDS)
    hurried.cancel()
    if not exited.done():
        process.kill()


def _die_with_parent() -> None:
    import ctypes

    # PR_SET_PDEATHSIG = 1: a process of ours never outlives the one that watches it.
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
