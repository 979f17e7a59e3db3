"""The whole of Headrace for a measurement: `headrace demo` on a simulated engine."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from headrace.devcluster.loopback import free_port
from loadtests.bench.places import python_path
from loadtests.load.plans import Closed, Plan
from loadtests.processes import ended

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0

_COMMAND: Final = "import sys; from headrace.cli.main import main; main()"


class Info(msgspec.Struct, frozen=True):
    """What the demo's ``info.json`` says."""

    base_url: str
    api_key: str
    model: str
    pids: dict[str, int]
    engines: dict[str, str] = {}

    def through(self, streams: int, tokens: int) -> Plan:
        """A load through the whole path."""
        return self._plan(self.base_url, self.api_key, streams, tokens)

    def direct(self, streams: int, tokens: int) -> Plan:
        """The same load on the same engine, without Headrace."""
        return self._plan(self.engines["worker-1"], "", streams, tokens)

    def _plan(self, target: str, key: str, streams: int, tokens: int) -> Plan:
        return Plan(
            target=target,
            api_key=key,
            model=self.model,
            arrivals=Closed(streams),
            seconds=3600,
            tokens=tokens,
        )


@contextmanager
def running(delay_ms: float = 0.0, workers: int = 1) -> Iterator[Info]:
    """A demo that serves. Raises RuntimeError with its output where it doesn't come to that."""
    # Not in the checkout: sockets want short paths, and another demo may run there.
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        where = Path(folder)
        options = ["--dir", str(where / "d"), "--port", str(free_port())]
        options += ["--workers", str(workers)]
        with (where / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, "demo", "--engine", "sim", *options],
                env={
                    **os.environ,
                    "PYTHONPATH": python_path(),
                    "SIM_DELAY_MS": str(delay_ms),
                },
                stdout=output,
                stderr=output,
            )
        try:
            yield _info(process, where)
        finally:
            process.send_signal(signal.SIGTERM)
            ended(process, STOP_SECONDS)


def _info(process: "subprocess.Popen[bytes]", where: Path) -> Info:
    path = where / "d" / "info.json"
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists():
            info = msgspec.json.decode(path.read_bytes(), type=Info)
            if "worker-1" in info.engines:
                return info
        time.sleep(0.1)
    raise RuntimeError(f"the demo does not serve:\n{(where / 'output').read_text()[-4000:]}")
