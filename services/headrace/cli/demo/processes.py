"""Processes below this one: started on a leash, awaited, ended, and none forgotten."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from headrace.cli.demo import die_with_parent

PR_SET_CHILD_SUBREAPER: Final = 36

KILL_SECONDS: Final = 5.0
"""What has not died of SIGKILL by then hangs in the kernel, and waiting longer is no help."""


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies (prctl(2)), to end it too."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(argv: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a daemon in a session of its own: a terminal's Ctrl-C is for us alone."""
    command = [sys.executable, "-IS", die_with_parent.__file__, str(os.getpid()), *argv]
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process's end without a thread; returns its exit status as Popen gives it."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:  # ended and collected already
        return process.wait()
    try:
        loop.add_reader(descriptor, done.set)
        await done.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process and to what it has started in its session's first group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def children(parent: int) -> Iterator[tuple[int, str]]:
    """Process id and state letter of each child of `parent`, from /proc/PID/stat (proc(5))."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):  # gone meanwhile
            fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                yield int(entry.name), fields[0]


def descendants(parent: int) -> list[int]:
    """Every living process below `parent`, the nearest first."""
    found = [pid for pid, state in children(parent) if state not in "ZX"]
    for pid in list(found):
        found += descendants(pid)
    return found


def bury(known: set[int]) -> None:
    """Collect adopted children that have ended; `known` ones are somebody's else to collect."""
    for pid, state in list(children(os.getpid())):
        if state == "Z" and pid not in known:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def kill_descendants() -> None:
    """End everything below this process, now: whose parent dies becomes our child, and is next."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
        bury(set())
