"""Where and on what a result was measured, and how it is kept."""

import os
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtests.bench.places import ROOT

RESULTS: Final = ROOT / "loadtests" / "results"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What numbers depend on. `load_average` is that of the minute before."""

    cpus: int
    processor: str
    python: str
    load_average: float
    commit: str


def machine() -> Machine:
    """This machine, now."""
    return Machine(
        cpus=os.cpu_count() or 0,
        processor=_processor(),
        python=platform.python_version(),
        load_average=round(os.getloadavg()[0], 2),
        commit=_commit(),
    )


def keep(result: Any, path: Path) -> None:
    """Write a result as JSON that people can read too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def raise_file_limit() -> int:
    """Let this process and its children open as many files as the system allows; the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    argv = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
