"""Runs one of Slurm's commands: the only file of this package that starts a process for a service.

A command that hangs (the controller is away, a file system stands still) is killed with all that it
started, and one that talks without end is cut off. Trying again is the caller's: what is worth it
depends on what was asked.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Final

from headrace.slurm.commands import Command
from headrace.slurm.output import Output
from headrace.slurm.sbatch import NOT_STARTED

MAX_OUTPUT_BYTES: Final = 64 * 1024 * 1024
"""The JSON of ten thousand jobs is about as large; our rows of them are 3 MiB."""

MAX_ERROR_BYTES: Final = 64 * 1024

_CHUNK: Final = 256 * 1024


async def run(command: Command, timeout: float, *, max_output: int = MAX_OUTPUT_BYTES) -> Output:
    """Run `command` for at most `timeout` seconds. Never raises for what the command does."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command.argv,
            env=command.env,
            cwd="/",
            stdin=asyncio.subprocess.PIPE if command.stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # A group of its own, to be killed as one.
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Output(None, failure=f"{NOT_STARTED} {command.name}: {error}")
    output = None
    try:
        async with asyncio.timeout(timeout):
            output = await _finished(process, command, max_output)
    except TimeoutError:
        return Output(None, failure=f"{command.name} did not answer within {timeout:g} s")
    finally:
        if output is None:  # whatever stopped us stops the command too
            _kill(process)
            await asyncio.shield(process.wait())
    return output


async def _finished(
    process: asyncio.subprocess.Process, command: Command, max_output: int
) -> Output:
    def too_much() -> None:
        _kill(process)

    out, err, _ = await asyncio.gather(
        _read(process.stdout, max_output, too_much),
        # What a command says beyond this on stderr is let go, not a reason to end it.
        _read(process.stderr, MAX_ERROR_BYTES, None),
        _write(process.stdin, command.stdin.encode()),
    )
    code = await process.wait()
    if len(out) > max_output:
        return Output(None, failure=f"{command.name} said more than {max_output} bytes")
    return Output(code, out.decode(errors="replace"), err.decode(errors="replace"))


async def _read(
    stream: asyncio.StreamReader | None, limit: int, too_much: Callable[[], None] | None
) -> bytes:
    """All of `stream`, or a little more than `limit` bytes of it and then `too_much`."""
    kept = bytearray()
    while stream is not None and (chunk := await stream.read(_CHUNK)):
        if len(kept) <= limit:
            kept += chunk
        if len(kept) > limit and too_much is not None:
            too_much()
            break
    return bytes(kept)


async def _write(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    with contextlib.suppress(ConnectionError):  # it did not want to read all of it
        stream.write(data)
        await stream.drain()
    stream.close()


def _kill(process: asyncio.subprocess.Process) -> None:
    # The number of a group with members is given to nobody else, though its leader may be gone.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
