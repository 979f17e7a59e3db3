"""Running a command: it ends, it hangs, it floods, it leaves children; we come back in any case."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from headrace.slurm import client, shell
from headrace.slurm.client import SlurmClient
from headrace.slurm.commands import Command, Commands
from headrace.slurm.sbatch import SubmitOutcome

pytestmark = pytest.mark.anyio
PATH = "/usr/bin:/bin"


def sh(script: str, stdin: str = "") -> Command:
    return Command(("sh", "-c", script), {"PATH": PATH}, stdin)


async def test_a_command_that_ends() -> None:
    output = await shell.run(sh("cat; echo err >&2; exit 3", "in\n" * 100_000), 10)
    assert (output.exit_code, output.stdout, output.stderr) == (3, "in\n" * 100_000, "err\n")


async def test_only_the_environment_that_was_given() -> None:
    output = await shell.run(Command(("env",), {"PATH": PATH, "A": "1"}), 10)
    assert set(output.stdout.split()) == {f"PATH={PATH}", "A=1"}


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    # The shell ends, its child holds the pipe.
    output = await shell.run(sh(f"sleep 60 & echo $! > {tmp_path}/pid; exit 0"), 0.5)
    assert output.exit_code is None
    assert "did not answer within 0.5 s" in output.problem
    assert time.monotonic() - began < 5
    pid = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(5):
        while _cmdline(pid):  # noqa: ASYNC110  # another process's end
            await asyncio.sleep(0.05)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _cmdline(pid: int) -> bytes:
    return _read(Path(f"/proc/{pid}/cmdline"))


async def test_a_command_that_floods_is_cut_off() -> None:
    output = await shell.run(sh("yes"), 20, max_output=1_000_000)
    assert "said more than 1000000 bytes" in output.problem
    output = await shell.run(sh("yes >&2 & sleep 0.5; kill $!"), 20)
    assert output.exit_code == 0
    assert len(output.stderr) < 1_000_000


async def test_a_command_that_is_not_there() -> None:
    output = await shell.run(Command(("no-such-program",), {"PATH": PATH}), 10)
    assert output.problem.startswith("cannot start no-such-program")


async def test_a_command_that_does_not_read_its_input() -> None:
    output = await shell.run(sh("exit 0", "x" * 10_000_000), 10)
    assert output.exit_code == 0


async def test_what_is_no_text() -> None:
    output = await shell.run(sh(r"printf '\377\376'"), 10)
    assert output.stdout == "\ufffd\ufffd"


async def test_a_caller_that_goes_away_takes_the_command_along(tmp_path: Path) -> None:
    task = asyncio.create_task(shell.run(sh(f"echo $$ > {tmp_path}/pid; exec sleep 60"), 60))
    while not _read(tmp_path / "pid"):  # noqa: ASYNC110  # another process's doing
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pid = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(5):  # it is killed; on a busy machine it takes a moment to go
        while _cmdline(pid):  # noqa: ASYNC110  # another process's doing
            await asyncio.sleep(0.01)


def programs(folder: Path, **bodies: str) -> SlurmClient:
    """A client whose Slurm commands are these scripts."""
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    commands = Commands({"PATH": str(folder)}, "headrace")
    return SlurmClient(commands, client.Timeouts(read=1.0, submit=1.0))


async def test_the_client_never_raises_for_what_slurm_does(tmp_path: Path) -> None:
    slurm = programs(tmp_path, squeue="exit 1", sinfo="echo garbage", scontrol="exec /bin/sleep 60")
    assert not (await slurm.jobs()).trusted
    assert not (await slurm.start_estimates()).trusted
    assert (await slurm.nodes()).problem
    assert (await slurm.partitions()).problem
    assert "did not answer" in (await slurm.ping()).problem
    assert "did not answer" in (await slurm.detail(1)).problem
    assert "cannot start" in (await slurm.cancel([1])).problem
    assert (await slurm.submit("#!/bin/sh\n")).outcome is SubmitOutcome.BUSY


async def test_many_jobs_are_cancelled_in_as_many_commands_as_it_takes(tmp_path: Path) -> None:
    slurm = programs(tmp_path, scancel=f'echo "$@" >> {tmp_path}/log')
    assert (await slurm.cancel(range(1, 501))).problem == ""
    lines = (tmp_path / "log").read_text().split("\n")
    assert [len(line.split()) for line in lines] == [200, 200, 100, 0]
    assert (await slurm.drain([])).problem == ""


async def test_the_account_is_this_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody-else")
    assert os.getuid() != 0 or client.account() == "root"
