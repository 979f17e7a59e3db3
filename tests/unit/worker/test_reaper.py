"""The reaper's end of the bargain: it tells how the engine ends, and when to end is not Slurm's."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from headrace.cli.demo.processes import descendants

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


# With a child of its own, in a session of its own, as vLLM's may be.
ENGINE = textwrap.dedent(
    """
    import subprocess, sys, time
    child = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    subprocess.Popen(child, start_new_session=True)
    time.sleep(600)
    """
)


def test_a_signal_for_the_whole_job_step_ends_neither_reaper_nor_engine(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*REAPER, tmp_path / "run", sys.executable, "-c", ENGINE],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
    ) as reaper:  # fmt: skip
        try:
            assert reaper.stdin is not None
            assert reaper.stdout is not None
            assert reaper.stdout.readline() == b"up\n"
            pids = descendants(reaper.pid)
            assert len(pids) == 2
            for pid in (reaper.pid, *pids):
                os.kill(pid, signal.SIGTERM)
            os.kill(reaper.pid, signal.SIGINT)
            time.sleep(0.3)
            assert descendants(reaper.pid) == pids
            reaper.stdin.write(b"\n")
            assert reaper.wait(10) == 128 + signal.SIGINT
            assert reaper.stdout.read() == b"", "a process of the engine's still has its log"
        finally:
            reaper.kill()
