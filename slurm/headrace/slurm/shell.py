"""Runs one of Slurm's commands: the only file of this package that starts a process for a service.

A command that hangs (the controller is away, a file system stands still) is killed with all that it
started, and one that talks without end is cut off. Trying again is the caller's: what is worth it
depends on what was asked.
"""

import asyncio
import contextlib
import os
import signal
from typing import Final, cast

from headrace.slurm.commands import Command
from headrace.slurm.output import CommandOutput
from headrace.slurm.sbatch import NOT_STARTED

MAX_OUTPUT_BYTES: Final = 64 * 1024 * 1024
"""The JSON of ten thousand jobs is about as large; our rows of them are 3 MiB."""

MAX_ERROR_BYTES: Final = 64 * 1024


async def run(
    command: Command, timeout: float, *, max_output: int = MAX_OUTPUT_BYTES
) -> CommandOutput:
    """Run `command` for at most `timeout` seconds. Never raises for what the command does."""
    heard = _Collector(max_output)
    try:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: heard,
            *command.argv,
            env=command.env,
            cwd="/",
            stdin=asyncio.subprocess.PIPE if command.stdin else asyncio.subprocess.DEVNULL,
            # A group of its own, to be killed as one.
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return CommandOutput(None, failure=f"{NOT_STARTED} {command.name}: {error}")
    try:
        _write(transport, command.stdin.encode())
        async with asyncio.timeout(timeout):
            await heard.enough.wait()
    except TimeoutError:
        return CommandOutput(None, failure=f"{command.name} did not answer within {timeout:g} s")
    finally:
        if not heard.over.is_set():  # whatever stopped us stops the command too
            _kill_group(transport.get_pid())
        transport.close()  # also of a command that has ended: asyncio complains otherwise
        await asyncio.shield(heard.over.wait())
    if len(heard.out) > max_output:
        return CommandOutput(None, failure=f"{command.name} said more than {max_output} bytes")
    out, err = heard.out.decode(errors="replace"), heard.err.decode(errors="replace")
    return CommandOutput(transport.get_returncode(), out, err)


class _Collector(asyncio.SubprocessProtocol):
    """What a command says. Not asyncio's streams: those keep a pipe open that nobody empties."""

    def __init__(self, max_output: int) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self.over = asyncio.Event()
        """The command has ended, and all that held its pipes has let them go."""
        self.enough = asyncio.Event()
        """It is over, or we have heard too much."""
        self._max_output = max_output

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.out += data
            if len(self.out) > self._max_output:
                self.enough.set()
        elif len(self.err) <= MAX_ERROR_BYTES:
            self.err += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self.over.set()
        self.enough.set()


def _write(transport: asyncio.SubprocessTransport, data: bytes) -> None:
    stdin = cast("asyncio.WriteTransport | None", transport.get_pipe_transport(0))
    if stdin is None:
        return
    # It need not read any of it, and uvloop says so with a RuntimeError.
    with contextlib.suppress(ConnectionError, RuntimeError):
        stdin.write(data)
        stdin.write_eof()


def _kill_group(leader: int) -> None:
    # The number of a group with members is given to nobody else, though its leader may be gone.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
