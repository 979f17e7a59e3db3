"""Ends the worker of a Slurm job with its demo: Slurm would let it run on after a kill.

What the demo starts itself ends by `die_with_parent`; the processes of a job are Slurm's children.
"""

import os
import select
import signal
import threading
from pathlib import Path
from typing import Final

from headrace.devcluster.cluster import LocalSlurm

MARK: Final = "from headrace.cli.demo import job_guard"
"""In the argv of every worker that a job of a demo runs."""

ENTRY: Final = (
    f"import sys; {MARK}; "
    "job_guard.tie({pid}, {root!r});"
    "from headrace.worker.main import main; sys.exit(main())"
)
"""What a job runs: a worker that ends with the demo of this process id."""


def tie(demo: int, root: str) -> None:
    """End this process, and the Slurm at `root` with all its jobs, as soon as `demo` is gone."""
    threading.Thread(target=_watch, args=(demo, root), daemon=True, name="job-guard").start()


def _watch(demo: int, root: str) -> None:
    try:
        descriptor = os.pidfd_open(demo)
    except ProcessLookupError:
        pass  # gone already
    else:
        select.select([descriptor], [], [])  # readable when it has ended
    LocalSlurm(Path(root)).stop()
    os.kill(os.getpid(), signal.SIGKILL)
