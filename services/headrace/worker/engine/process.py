"""The engine's process: started through the reaper, its log kept in mind and never on a disk."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections import deque
from pathlib import Path
from typing import Final

from headrace.worker.engine import exit_reasons
from headrace.worker.engine.launch import Launch, interpreter

TAIL_LINES: Final = 50
TAIL_LINE_CHARACTERS: Final = 400
"""What is kept of the log while the engine loads: enough for the end of a Python traceback."""

SOCKET_PATH_BYTES: Final = 107
"""The longest path of a Unix socket (sun_path in unix(7) is 108 bytes with its end)."""

SOCKET_NAME: Final = "engine.sock"

KILL_SECONDS: Final = 5.0
"""How long the reaper may take to kill: longer only if the kernel itself is stuck."""


def make_run_dir(base: str | None = None) -> Path:
    """A private directory, removed at the end, whose path leaves room for sockets.

    vLLM's own sockets there are named by a UUID, longer than ours.
    """
    for parent in (base or tempfile.gettempdir(), "/tmp"):  # noqa: S108  # mkdtemp is private
        with contextlib.suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix="headrace-", dir=parent))
            if len(os.fsencode(made)) + 40 <= SOCKET_PATH_BYTES:
                return made
            made.rmdir()
    raise OSError("no directory for temporary files can be written")


class EngineProcess:
    """One engine, from start to end."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.socket = run_dir / SOCKET_NAME
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._reason = ""
        self._loading = True

    async def start(self, launch: Launch) -> None:
        """Start the engine; what goes wrong from here on is told by `wait`."""
        self.socket.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *interpreter(), "-m", "headrace.worker.engine.reaper", str(self.run_dir), *launch.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=launch.env,
            start_new_session=True,
        )  # fmt: skip
        if self._process.stdout is not None:
            self._reader = asyncio.create_task(self._read(self._process.stdout), name="engine log")

    @property
    def pid(self) -> int:
        """The reaper's number, which is also the engine's session and process group."""
        return self._process.pid if self._process else 0

    def loaded(self) -> None:
        """The engine serves: from now on its log may quote prompts, so no line is kept."""
        self._loading = False
        self._tail.clear()

    async def wait(self) -> str:
        """Wait for the engine's end; why it died, for the operator."""
        code = await self._started.wait()
        if self._reader is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._reader), 1.0)
        stage = "while loading" if self._loading else "while serving"
        told = exit_reasons.sentence(stage, code, self._reason)
        if self._loading and self._tail:
            told += "\nThe last lines of its log:\n  " + "\n  ".join(self._tail)
        return told

    async def stop(self, seconds: float) -> None:
        """Ask the engine to end, then kill all that is left of it. Nothing is left on return."""
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.write(b"\n")  # any byte: the reaper asks the engine
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), seconds)
        await self.kill()

    async def kill(self) -> None:
        """End everything of the engine at once."""
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()  # the lifeline: the reaper kills all
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), KILL_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if self._reader is not None:
            self._reader.cancel()
        shutil.rmtree(self.run_dir, ignore_errors=True)

    @property
    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the engine was not started")
        return self._process

    async def _read(self, log: asyncio.StreamReader) -> None:
        rest = ""
        while data := await log.read(16_384):
            *lines, rest = (rest + data.decode(errors="replace")).split("\n")
            rest = rest[:TAIL_LINE_CHARACTERS]
            self._note(lines)
        self._note([rest])

    def _note(self, lines: list[str]) -> None:
        self._reason = exit_reasons.known(lines) or self._reason
        if self._loading:
            self._tail.extend(line[:TAIL_LINE_CHARACTERS] for line in lines if line.strip())
