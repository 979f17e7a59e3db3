"""Keeps one part running: starts it, starts it again when it dies, gives up on a crash loop."""

import asyncio
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from headrace.cli.demo import processes
from headrace.cli.demo.component import Component
from headrace.cli.demo.probes import until
from headrace.runtime.lifecycle import EXIT_CONFIG, FatalError

FIRST_BACKOFF: Final = 0.2
MAX_BACKOFF: Final = 3.0

STEADY_SECONDS: Final = 10.0
"""A process that lived for so long did not die at its start: its deaths are counted anew."""

MAX_DEATHS: Final = 5
"""Deaths in a row, each soon after the start, that make a crash loop."""

AFTER_SECONDS: Final = 10.0

LOG_LINES: Final = 15


class Supervisor:
    """One part and its process. Call `say` with what the person in front should know."""

    def __init__(
        self,
        part: Component,
        logs: Path,
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.part = part
        self.log = logs / f"{part.name}.log"
        self._environ = {**environ, **part.env}
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = asyncio.Event()

    @property
    def pid(self) -> int:
        """The running process's id, 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    async def run(self) -> None:
        """Keep the part running until `end`. Raises FatalError for what does not run at all."""
        deaths = 0
        loop = asyncio.get_running_loop()
        if self.part.after is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(AFTER_SECONDS):
                    await until(self.part.after)
        while not self._ending.is_set():
            born = loop.time()
            self._process = processes.start(self.part.argv, self._environ, self.log)
            status = await processes.ended(self._process)
            # What it had started must not meet its successor.
            processes.signal_group(self._process, signal.SIGKILL)
            self._process = None
            if self._ending.is_set():
                return
            deaths = 1 if loop.time() - born > STEADY_SECONDS else deaths + 1
            if status == EXIT_CONFIG:
                raise FatalError(f"{self.part.name} refuses its configuration.\n{self.tail()}")
            if deaths >= MAX_DEATHS:
                raise FatalError(
                    f"{self.part.name} {told(status)}, again and again.\n{self.tail()}"
                )
            backoff = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** (deaths - 1))
            self._say(f"{self.part.name} {told(status)}; starting it again in {backoff:.1f} s")
            await asyncio.sleep(backoff)

    async def end(self) -> None:
        """Ask the process to end, and after its time make it."""
        self._ending.set()
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.part.stop_seconds):
                await processes.ended(process)
        except TimeoutError:
            self._say(f"{self.part.name} did not end in {self.part.stop_seconds:.0f} s: killed")
        processes.signal_group(process, signal.SIGKILL)

    def tail(self) -> str:
        """The log's last lines, with where they are from."""
        if not self.log.exists():
            return f"Its log {self.log} is empty."
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            last = "".join(deque(lines, LOG_LINES))
        return f"The end of {self.log}:\n{last}"


def told(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"
