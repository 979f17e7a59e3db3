"""A part that is kept running: started again, given up, ended, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.cli.demo import die_with_parent, processes, supervisor
from headrace.cli.demo.component import Component
from headrace.cli.demo.supervisor import Supervisor
from headrace.runtime.lifecycle import FatalError
from tests.support.processes import alive

STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
PARENT = (
    "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True);"
    " p.wait()"
)


async def never() -> bool:
    return False


class Kept:
    """A keeper of one command, and what it says."""

    def __init__(self, folder: Path, *argv: str, stop_seconds: float = 3.0) -> None:
        part = Component(
            name="part", argv=argv, address="here", what="a test", probe=never,
            stop_seconds=stop_seconds,
        )  # fmt: skip
        self.said: list[str] = []
        self.keeper = Supervisor(part, folder, os.environ, self.said.append)
        self.task = asyncio.ensure_future(self.keeper.run())

    async def pid(self, other_than: int = 0) -> int:
        async with asyncio.timeout(10):
            while self.keeper.pid in {0, other_than}:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
        return self.keeper.pid

    async def end(self) -> None:
        await self.keeper.end()
        async with asyncio.timeout(5):
            await self.task


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "sleep", "60")
    first = await kept.pid()
    os.kill(first, signal.SIGKILL)
    second = await kept.pid(other_than=first)
    assert kept.said == ["part was ended by SIGKILL; starting it again in 0.2 s"]
    await kept.end()
    assert not alive(second)


async def test_a_process_that_dies_at_once_is_given_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_BACKOFF", 0.01)
    kept = Kept(
        tmp_path, sys.executable, "-IS", "-c", "import sys; print('last words'); sys.exit(3)"
    )
    with pytest.raises(FatalError, match="exit code 3, again and again") as error:
        await kept.task
    assert "last words" in str(error.value)
    assert len(kept.said) == supervisor.MAX_DEATHS - 1


async def test_a_refused_configuration_is_given_up_at_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path, sys.executable, "-IS", "-c", "raise SystemExit(78)")
    with pytest.raises(FatalError, match="refuses its configuration"):
        await kept.task
    assert not kept.said


async def test_a_stubborn_process_is_killed(tmp_path: Path) -> None:
    kept = Kept(tmp_path, sys.executable, "-IS", "-c", STUBBORN, stop_seconds=0.5)
    pid = await kept.pid()
    await asyncio.sleep(0.5)  # until it ignores the signal
    await kept.end()
    assert not alive(pid)
    assert "killed" in kept.said[-1]


async def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path, sys.executable, "-IS", "-c", PARENT)
    await kept.pid()
    async with asyncio.timeout(10):
        while not (told := kept.keeper.log.read_text()):  # noqa: ASYNC110  # a file
            await asyncio.sleep(0.02)
    await kept.end()
    deadline = time.monotonic() + 5
    while alive(int(told)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_it_can_be_ended_before_it_started(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "no-such-program")
    await kept.keeper.end()
    async with asyncio.timeout(5):
        await kept.task


def test_a_leashed_process_dies_with_its_killed_parent(tmp_path: Path) -> None:
    parent = (
        "import os, subprocess, sys\n"
        f"argv = [sys.executable, '-IS', {die_with_parent.__file__!r}]\n"
        "argv += [str(os.getpid()), 'sleep', '60']\n"
        "p = subprocess.Popen(argv, start_new_session=True)\n"
        "print(p.pid, flush=True)\np.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        process.kill()
    deadline = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_leash_whose_holder_is_gone_starts_nothing() -> None:
    argv = [sys.executable, "-IS", die_with_parent.__file__, "1", "echo", "started"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 1
    assert not done.stdout


def test_a_program_that_is_not_there_is_told() -> None:
    argv = [sys.executable, "-IS", die_with_parent.__file__, str(os.getpid()), "no-such-program"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 1
    assert done.stderr == "cannot start no-such-program: No such file or directory\n"


def test_descendants_are_found_however_deep() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        inner = int(process.stdout.readline())
        assert processes.descendants(process.pid) == [inner]
        assert {process.pid, inner} <= set(processes.descendants(os.getpid()))
        os.kill(inner, signal.SIGKILL)
