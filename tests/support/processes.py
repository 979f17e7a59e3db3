"""Which processes the tests started and left behind.

Every process that a test starts inherits a mark in its environment, so one that cut itself loose
from its parent is found as well. Children are found by descent too, for some programs (sshd) write
over their environment.
"""

import os
import signal
import time
import uuid
from pathlib import Path
from typing import NamedTuple

MARK = "HEADRACE_TEST_RUN"
# How long an asked process may take to go before it counts as left behind.
GRACE_SECONDS = 10.0
# Helpers of Python's own that live as long as the interpreter does.
OURS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


class Process(NamedTuple):
    pid: int
    # In clock ticks since boot. With it a pid names one process for good, though pids come again.
    started: int
    command: str


def mark() -> None:
    """Mark this process's children to come. Once, before the first of them starts."""
    os.environ[MARK] = uuid.uuid4().hex


def environ() -> dict[str, str]:
    """The mark, for a daemon that gets an environment of its own."""
    return {MARK: os.environ[MARK]}


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and start of a process, from /proc/PID/stat (see proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and waits for its parent to notice does not."""
    try:
        return _stat(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def started() -> set[Process]:
    """Every living process that this one, or a process that it started, has started."""
    marked = f"{MARK}={os.environ[MARK]}".encode()
    parents: dict[int, int] = {}
    living: dict[int, Process] = {}
    ours: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or (pid := int(entry.name)) == os.getpid():
            continue
        try:
            state, parents[pid], start = _stat(pid)
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone meanwhile
        if state in "ZX":
            continue
        living[pid] = Process(pid, start, command.strip())
        if marked in _environment(pid):
            ours.add(pid)
    return {p for p in living.values() if p.pid in ours or _descends(p.pid, parents)}


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return []  # gone meanwhile, or another user's: descent must tell


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while (pid := parents.get(pid, 0)) > 1:
        if pid == os.getpid():
            return True
    return False


class Guard:
    """Knows what ran before, and says what runs in addition afterwards."""

    def __init__(self) -> None:
        self._known = started()

    def adopt(self, pid: int) -> None:
        """Allow a process, and what it starts, that outlives the guarded part on purpose."""
        self._known |= {p for p in started() if p.pid == pid}

    def left_behind(self, grace: float = GRACE_SECONDS) -> set[Process]:
        """What still runs after the grace, then killed: the next test must not meet it."""
        deadline = time.monotonic() + grace
        while left := self._new():
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        for process in left:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return left

    def _new(self) -> set[Process]:
        return {
            p
            for p in started() - self._known
            if not any(ours in p.command for ours in OURS) and not self._below_known(p.pid)
        }

    def _below_known(self, pid: int) -> bool:
        known = {p.pid for p in self._known}
        while pid > 1 and pid != os.getpid():
            if pid in known:
                return True
            try:
                pid = _stat(pid)[1]
            except (FileNotFoundError, ProcessLookupError):
                return False
        return False
