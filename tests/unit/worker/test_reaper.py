"""The reaper's end of the bargain: however soon the engine dies, it is told."""

import subprocess
import sys
from pathlib import Path

import pytest

REAPER = [sys.executable, "-P", "-m", "headrace.worker.engine.reaper"]


@pytest.mark.parametrize(
    ("program", "code"), [("/bin/false", 1), ("/bin/true", 0), ("nothing", 127)]
)
def test_an_engine_that_dies_at_once_is_noticed(tmp_path: Path, program: str, code: int) -> None:
    for _ in range(8):
        with subprocess.Popen(
            [*REAPER, tmp_path / "run", program],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as reaper:  # fmt: skip
            try:
                assert reaper.wait(10) == code
            finally:
                reaper.kill()
