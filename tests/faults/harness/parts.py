"""One process of the installation, started again whenever it ends, as a service manager would."""

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from headrace.cli.demo import processes

RESTART_SECONDS: Final = 0.5


class Part:
    """A process that is kept running, unless it is kept down."""

    def __init__(self, name: str, argv: Sequence[str], logs: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.deaths = 0
        self._argv = argv
        self._log = logs / f"{name}.log"
        self._env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it running."""
        self._task = asyncio.create_task(self._keep(), name=self.name)

    async def end(self, seconds: float) -> None:
        """Ask it to end, and make it; it does not come back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if (process := self._process) is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await processes.ended(process)
        except TimeoutError:
            process.kill()
            await processes.ended(process)

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def send(self, number: signal.Signals) -> None:
        """A signal, if it is there to hear it."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def keep_down(self) -> None:
        """Don't start it again, until `let_up`."""
        self._may_run.clear()

    def let_up(self) -> None:
        """Start it again, if it is down."""
        self._may_run.set()

    def limit_files(self, more: int | None) -> None:
        """Let it open `more` files than it has open, or as many as ever."""
        if not self.pid:
            return
        with suppress(OSError):
            _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
            soft = hard
            if more is not None:
                soft = min(hard, len(list(Path(f"/proc/{self.pid}/fd").iterdir())) + more)
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, hard))

    async def _keep(self) -> None:
        while True:
            await self._may_run.wait()
            self._process = processes.start(self._argv, self._env, self._log)
            await processes.ended(self._process)
            self.deaths += 1
            await asyncio.sleep(RESTART_SECONDS)
