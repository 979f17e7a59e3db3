"""A simulated engine as a process of whoever measures or tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from loadtests.processes import ended

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_SECONDS: Final = 5.0


class Running(msgspec.Struct, frozen=True):
    """A simulated engine that listens on all of `addresses`, in the order of its options."""

    addresses: tuple[str, ...]
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        """Where it listens: ``unix:PATH`` or ``http://HOST:PORT``."""
        return self.addresses[0]


@contextmanager
def running(*argv: str) -> Iterator[Running]:
    """Run ``simengine`` with these arguments. Raises RuntimeError if it does not listen."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.simengine", *argv],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        expected = ("--uds" in argv) + ("--port" in argv)
        lines = [process.stdout.readline() for _ in range(expected)]
        addresses = tuple(line.removeprefix("listening: ").strip() for line in lines)
        if not all(addresses):
            raise RuntimeError("the simulated engine does not listen")
        yield Running(addresses, process)
    finally:
        process.send_signal(signal.SIGTERM)
        ended(process, STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()
