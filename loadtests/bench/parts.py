"""Processes that a measurement starts: each with a log, none that outlives the bench."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from headrace.cli.demo import processes
from headrace.cli.demo.component import Probe
from headrace.cli.demo.probes import until
from loadtests.bench.places import python_path

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
LOG_CHARACTERS: Final = 3000


class NotServing(Exception):
    """A process does not come to serve, or has ended. The text has the end of its log."""


class Running:
    """A process that was started, with the session that is its own."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        self._process = processes.start(
            argv, {**os.environ, "PYTHONPATH": python_path(), **env}, log
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self, probe: Probe, seconds: float = START_SECONDS) -> None:
        """Wait until the probe says so. Raises NotServing."""
        try:
            async with asyncio.timeout(seconds):
                while not await probe():
                    if self._process.poll() is not None:
                        raise NotServing(f"{self.name} has ended:\n{self.tail()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise NotServing(f"{self.name} does not serve:\n{self.tail()}") from None

    async def end(self) -> None:
        """Ask it to end, then make it and what it has started."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await processes.ended(self._process)
        processes.signal_group(self._process, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-LOG_CHARACTERS:] if self._log.exists() else ""


async def wait(probe: Probe, what: str, seconds: float = START_SECONDS) -> None:
    """Wait until the probe says so. Raises NotServing with `what` was waited for."""
    try:
        async with asyncio.timeout(seconds):
            await until(probe)
    except TimeoutError:
        raise NotServing(f"after {seconds:.0f} s still not: {what}") from None
