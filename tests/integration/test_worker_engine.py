"""Engines that do not come up, and the reaper that leaves nothing of any engine behind."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.demo.processes import descendants
from headrace.protocol.state import WorkerPhase
from headrace.worker.engine.launch import Launch
from headrace.worker.engine.process import SOCKET_PATH_BYTES, EngineProcess, make_run_dir
from tests.support.processes import alive
from tests.support.worker_kit import SIM, Stand

# An engine as bad as they come: children in sessions of their own, deaf to signals, orphans.
UNRULY = textwrap.dedent(
    """
    import os, signal, sys, time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for deep in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                time.sleep(600)
            if deep:
                os._exit(0)
            time.sleep(600)
    print("begun", flush=True)
    if "--end" in sys.argv:
        sys.exit(3)
    time.sleep(600)
    """
)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EngineProcess]:
    process = EngineProcess(make_run_dir(str(tmp_path)))
    yield process
    await process.kill()
    assert not process.run_dir.exists()


async def begun(engine: EngineProcess, *args: str) -> list[int]:
    """Start the unruly engine; its processes."""
    await engine.start(Launch([sys.executable, "-c", UNRULY, *args], dict(os.environ)))
    async with asyncio.timeout(30):
        while True:
            pids = descendants(engine.pid)
            # the engine, one child that stays, three grandchildren: some of them orphans
            if len(pids) >= 5:
                return pids
            await asyncio.sleep(0.02)


async def gone(pids: list[int], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while any(alive(pid) for pid in pids):  # noqa: ASYNC110  # they are not our children
            await asyncio.sleep(0.02)


async def test_whatever_an_engine_has_started_ends_with_it(engine: EngineProcess) -> None:
    pids = await begun(engine)
    await engine.stop(0.2)
    assert not any(alive(pid) for pid in pids)


async def test_an_engine_that_ends_leaves_no_children(engine: EngineProcess) -> None:
    await engine.start(Launch([sys.executable, "-c", UNRULY, "--end"], dict(os.environ)))
    assert "(exit code 3)" in await engine.wait()
    assert descendants(engine.pid) == []


async def test_a_killed_reaper_takes_the_engine_along(engine: EngineProcess) -> None:
    await engine.start(Launch([sys.executable, "-c", "import time; time.sleep(600)"], {}))
    async with asyncio.timeout(30):
        while not (pids := descendants(engine.pid)):  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.02)
    os.kill(engine.pid, signal.SIGKILL)
    await engine.wait()
    await gone(pids)


async def test_a_program_that_is_not_there(engine: EngineProcess) -> None:
    await engine.start(Launch(["/no/such/engine"], {}))
    told = await engine.wait()
    assert "exit code 127" in told
    assert "cannot start /no/such/engine: No such file" in told


async def test_the_end_of_the_log_is_told_while_loading_and_never_after(
    engine: EngineProcess,
) -> None:
    script = "for i in range(1000): print('line', i)"
    await engine.start(Launch([sys.executable, "-c", script], {}))
    told = await engine.wait()
    assert "line 999" in told
    assert told.count("\n") <= 51
    engine.loaded()
    assert "line" not in await engine.wait()


async def test_a_stale_socket_is_taken_away(engine: EngineProcess) -> None:
    engine.socket.touch()
    script = "import pathlib, sys; print(pathlib.Path(sys.argv[1]).exists())"
    await engine.start(Launch([sys.executable, "-c", script, str(engine.socket)], {}))
    assert "False" in await engine.wait()


async def test_a_long_temporary_directory_is_not_used(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    made = make_run_dir(str(deep))
    try:
        assert made.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(made / "engine.sock")) <= SOCKET_PATH_BYTES
        assert list(deep.iterdir()) == []
    finally:
        made.rmdir()


# The whole worker


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ({"command": ("/no/such/engine", "{socket}")}, "cannot be started"),
        (
            {"command": (sys.executable, "-c", "raise MemoryError # {socket}")},
            "died while loading (exit code 1): this node ran out of memory",
        ),
        (
            {"command": (sys.executable, "-c", "import os; os.kill(os.getpid(), 9) # {socket}")},
            "killed by SIGKILL",
        ),
        (
            {"command": (*SIM, "--load-seconds", "60"), "start_seconds": 2},
            "did not serve within 2 s",
        ),
        ({"command": (*SIM, "--status", "404")}, "answers no request (HTTP 404, 404, 404)"),
        ({"command": (*SIM, "--hang"), "start_seconds": 2}, "did not serve within 2 s"),
    ],
)
async def test_an_engine_that_does_not_come_up_is_explained(
    stand: Stand, engine: dict[str, Any], says: str
) -> None:
    gone_ = asyncio.create_task(stand.edge.phase(WorkerPhase.GONE))
    worker = await stand.worker(ready=False, engine={"kind": "command"} | engine)
    assert await worker.ended(40) == 1
    assert says in worker.log()
    sentence = next(line for line in worker.log().splitlines() if line.startswith("headrace: "))
    reason = (await gone_).reason
    assert sentence == f"headrace: {reason}"
    assert worker.has_left_nothing()


async def test_an_engine_that_dies_before_the_bus_is_there_is_explained(
    stand: Stand, tmp_path: Path
) -> None:
    gone_ = asyncio.create_task(stand.edge.phase(WorkerPhase.GONE))
    began_ = tmp_path / "began"
    script = f"open({str(began_)!r}, 'w'); raise MemoryError # {{socket}}"
    stand.pair.leaf.send_signal(signal.SIGSTOP)
    try:
        engine = {"kind": "command", "command": (sys.executable, "-c", script)}
        worker = await stand.worker(ready=False, engine=engine)
        async with asyncio.timeout(20):
            while not began_.exists() or descendants(worker.pid):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)  # it has noticed
    finally:
        stand.pair.leaf.send_signal(signal.SIGCONT)
    assert await worker.ended() == 1
    assert "this node ran out of memory" in (await asyncio.wait_for(gone_, 20)).reason
    assert worker.has_left_nothing()


async def test_a_bus_that_never_comes_does_not_hold_a_worker_up(stand: Stand) -> None:
    stand.pair.leaf.kill()
    engine = {"kind": "command", "command": ("/no/such/engine", "{socket}")}
    worker = await stand.worker(ready=False, engine=engine)
    assert await worker.ended(20) == 1
    assert "cannot be started" in worker.log()
    assert worker.has_left_nothing()


async def test_a_slow_engine_is_waited_for(stand: Stand) -> None:
    for silent in ((), ("--load-silent",)):
        command = (*SIM, "--load-seconds", "1.5", *silent)
        worker = await stand.worker(ready=False, engine={"kind": "command", "command": command})
        assert (await stand.edge.phase(WorkerPhase.LOADING)).running == 0
        await stand.edge.phase(WorkerPhase.READY)
        worker.process.terminate()
        assert await worker.ended() == 0


async def test_a_signal_while_loading_is_obeyed(stand: Stand) -> None:
    command = (*SIM, "--load-seconds", "60")
    worker = await stand.worker(ready=False, engine={"kind": "command", "command": command})
    await stand.edge.phase(WorkerPhase.LOADING)
    pids = worker.engine_pids()
    worker.process.terminate()
    assert await worker.ended() == 0, worker.log()
    await gone(pids)
    assert worker.has_left_nothing()


@pytest.mark.parametrize("left", [10, 24])
async def test_a_walltime_too_short_to_load_is_explained(stand: Stand, left: int) -> None:
    """Over before the engine starts, or while it loads."""
    command = (*SIM, "--load-seconds", "60")
    gone_ = asyncio.create_task(stand.edge.phase(WorkerPhase.GONE))
    worker = await stand.worker(
        ready=False,
        engine={"kind": "command", "command": command},
        drain_seconds=1,
        ends_at=time.time() + left,
    )
    # Not as a failure: another node would not do better.
    assert await worker.ended(30) == 0
    assert "the walltime is over before the engine has loaded" in worker.log()
    assert worker.has_left_nothing()
    if left > 16:  # before that it does not connect
        assert "walltime" in (await gone_).reason
    gone_.cancel()


async def test_a_bad_configuration_has_an_exit_code_of_its_own(stand: Stand) -> None:
    worker = await stand.worker(ready=False, slots=0)
    assert await worker.ended() == 78
    assert worker.log().startswith("headrace: ")
    open_key = Path(stand.pair.key("edge")).with_name("open.nk")
    open_key.write_text("SUA")
    open_key.chmod(0o644)
    bus = {"url": stand.pair.leaf_url, "nkey_file": str(open_key)}
    worker = await stand.worker(ready=False, bus=bus)
    assert await worker.ended() == 78
    assert "chmod 600" in worker.log().splitlines()[-1]
