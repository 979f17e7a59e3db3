"""Ties a worker in a Slurm job to the demo: Slurm would let it run on where the demo is killed.

What the demo starts itself is on a leash (`leash`), but a job's processes are Slurm's children.
"""

import os
import select
import signal
import threading
from pathlib import Path
from typing import Final

from headrace.devcluster.cluster import LocalSlurm

ENTRY: Final = (
    "import sys; from headrace.cli.demo import job_guard; job_guard.tie({pid}, {root!r});"
    "from headrace.worker.main import main; sys.exit(main())"
)
"""What a job runs: a worker that ends with the demo of this process id."""


def tie(demo: int, root: str) -> None:
    """End this process, and the Slurm at `root` with all its jobs, as soon as `demo` is gone."""
    threading.Thread(target=_watch, args=(demo, root), daemon=True, name="tether").start()


def _watch(demo: int, root: str) -> None:
    try:
        descriptor = os.pidfd_open(demo)
    except ProcessLookupError:
        pass  # gone already
    else:
        select.select([descriptor], [], [])  # readable when it has ended
    LocalSlurm(Path(root)).stop()
    os.kill(os.getpid(), signal.SIGKILL)
