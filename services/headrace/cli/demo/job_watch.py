"""Finds the workers and engines of the demo's Slurm jobs; what Slurm starts has no keeper here."""

import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from headrace.catalogue import status
from headrace.cli.demo import engine_watch, job_guard, processes

_JOB: Final = b"SLURM_JOB_ID="
_MARK: Final = job_guard.MARK.encode()


class JobWatch:
    """What runs in jobs, looked for again only when the scaler's status says that it may differ."""

    def __init__(self, status_file: Path) -> None:
        self._file = status_file
        self._read_at = 0
        self._wanted: set[int] = set()
        self.pids: dict[str, int] = {}
        """``worker-JOB`` and ``engine-JOB``."""
        self.engines: dict[str, str] = {}
        """Where the engine of ``worker-JOB`` listens."""

    def settled(self) -> bool:
        """Whether what was found last still holds, as far as one can tell without looking."""
        self._read()
        return {f"worker-{job}" for job in self._wanted} == self.engines.keys()

    def look(self) -> None:
        """Find them among this process's descendants, which Slurm's orphans are."""
        pids = {}
        engines = {}
        for pid in processes.descendants(os.getpid()):
            job = _job_of(pid)
            if job and _is_worker(pid):
                pids[f"worker-{job}"] = pid
                if (engine := engine_watch.find(pid)) is not None:
                    pids[f"engine-{job}"], engines[f"worker-{job}"] = engine
        self.pids, self.engines = pids, engines

    def _read(self) -> None:
        try:
            written = self._file.stat().st_mtime_ns
            if written == self._read_at:
                return
            found = status.read(self._file)
        except (OSError, msgspec.DecodeError):
            return
        self._read_at = written
        self._wanted = {
            worker.job
            for model in found.models
            for worker in model.workers
            if worker.started_at and worker.job
        }


def _job_of(pid: int) -> int:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return 0  # gone meanwhile
    for each in environ:
        if each.startswith(_JOB):
            return int(each.removeprefix(_JOB))
    return 0


def _is_worker(pid: int) -> bool:
    """Whether it is the worker itself, and not srun, which has the same words in its argv."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return argv[0] == sys.executable.encode() and any(_MARK in word for word in argv)
