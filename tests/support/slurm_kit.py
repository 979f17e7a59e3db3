"""A real Slurm for a test, with pretended nodes and GPUs, and nothing of it left afterwards."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from headrace.devcluster.cluster import LocalSlurm
from headrace.devcluster.local import LocalOptions
from tests.support import processes

GRACE_SECONDS = 3.0


class StartSlurm(Protocol):
    """Start a Slurm of the test's own; it ends with the test."""

    def __call__(self, options: LocalOptions | None = None) -> LocalSlurm: ...


@pytest.fixture
def start_slurm() -> Iterator[StartSlurm]:
    started: list[LocalSlurm] = []

    def start(options: LocalOptions | None = None) -> LocalSlurm:
        # Not below tmp_path: that is long for a socket's path, and closed to other accounts.
        root = Path(tempfile.mkdtemp(prefix="hr-slurm-"))
        slurm = LocalSlurm(root, options, environ=processes.environ())
        started.append(slurm)
        slurm.start()
        return slurm

    try:
        yield start
    finally:
        for slurm in started:
            slurm.stop()
            _check_nothing_is_left(slurm)
            shutil.rmtree(slurm.root, ignore_errors=True)


def _check_nothing_is_left(slurm: LocalSlurm) -> None:
    # The guard of every test does not see these: a slurmstepd writes over its environment.
    deadline = time.monotonic() + GRACE_SECONDS
    while left := slurm.job_processes(*slurm.nodes):
        assert time.monotonic() < deadline, f"job steps are left: {sorted(left)}"
        time.sleep(0.05)


@pytest.fixture
def slurm(start_slurm: StartSlurm) -> LocalSlurm:
    """Four nodes of four GPUs each, two partitions, of which `high` preempts `low`."""
    return start_slurm()
