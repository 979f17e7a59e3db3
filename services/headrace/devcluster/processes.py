"""Processes by what /proc says of them (proc(5)): for the local Slurm, whose steps are orphans."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path


def environments() -> Iterator[tuple[int, list[bytes]]]:
    """Each process with the environment that it was started with, as far as we may look."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # gone meanwhile, or another user's
                yield int(entry.name), (entry / "environ").read_bytes().split(b"\0")


def working_in(folders: set[Path]) -> set[int]:
    """The processes whose working directory is one of `folders`."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() in folders:
                    found.add(int(entry.name))
    return found


def with_descendants(ancestors: set[int]) -> set[int]:
    """`ancestors` and every living process below them."""
    parents = dict(_parents())
    found = set(ancestors)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def kill(pids: Iterable[int]) -> None:
    """SIGKILL to each that is still there; none of them sees another one die before."""
    every = list(pids)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in every:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def kill_group(leader: int, number: signal.Signals) -> None:
    """A signal to the group of a process that leads one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                yield int(entry.name), int(stat.rpartition(")")[2].split()[1])
