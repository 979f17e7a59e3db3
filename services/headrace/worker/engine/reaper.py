"""A small process between the worker and its engine: when either ends, nothing of the engine stays.

An engine starts processes of its own, and a worker that is killed can't end them. This process
adopts all of them (PR_SET_CHILD_SUBREAPER, prctl(2)) and watches the worker through a pipe that
the kernel closes with it, however it dies. A byte on the pipe asks the engine to end; the end of
the pipe, or the engine's own end, kills whatever is left and removes the run directory.

SIGTERM is for the worker alone. Slurm sends it to every process of a job step when it drains or
preempts, and an engine that heeded it would cut off the answers that the worker still lets end.

Python's standard library only: it is there for as long as the engine is, so it stays small.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36

EXIT_SIGNAL: Final = 128
"""An engine that was ended by signal N is told as exit code 128 + N, as shells do."""

ENDING: Final = (signal.SIGTERM, signal.SIGINT)
"""What asks the worker to end, and must not end this process before it."""

CHECK_SECONDS: Final = 0.05
"""How often to look again while the killed are on their way out."""


def prctl(option: int, argument: int) -> None:
    """prctl(2), where there is one."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)


def children() -> list[int]:
    """The living children of this process, the adopted included, from /proc/PID/stat (proc(5))."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # gone meanwhile
        if int(fields[1]) == os.getpid() and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found


def collect(engine: int) -> int | None:
    """Take note of the dead. The exit code of `engine` if it is among them, else None."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == engine:
                code = os.waitstatus_to_exitcode(status)
    return code


def kill_all() -> None:
    """Kill every descendant, however deep: whose parent dies becomes our child."""
    while True:
        for pid in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(CHECK_SECONDS)
        except ChildProcessError:
            return


def watch(engine: int, lifeline: int, wakeup: int) -> int | None:
    """Wait until the engine ends and return its exit code, or None if the worker ends first."""
    while (code := collect(engine)) is None:
        readable, _, _ = select.select([lifeline, wakeup], [], [])
        if wakeup in readable:
            os.read(wakeup, 64)
        if lifeline in readable:
            if not os.read(lifeline, 1):
                return None
            # Not collected yet, so the number is still the engine's own. Engines know SIGINT from
            # terminals. What they send to their own children is SIGTERM, which is blocked there
            # too: vLLM then kills them, as we do with whatever stays.
            os.kill(engine, signal.SIGINT)
    return code


def prepare() -> None:
    """What the engine inherits, across exec and down to its children: SIGTERM stays blocked."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The one that we ask with, which what a shell starts in the background ignores.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def start(argv: list[str]) -> int:
    """Start the engine, so that it dies with us too. Exits 127 where it can't be started."""
    try:
        engine = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            preexec_fn=prepare,  # noqa: PLW1509  # safe: this process has one thread
        )
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]}: {error.strerror}\n")
        sys.exit(127)
    # It is `collect` that waits for it. A Popen that is let go while it thinks that its process
    # runs would take an engine's quick death away from there, and we would wait for ever.
    engine.returncode = 0
    return engine.pid


def main() -> int:
    """``reaper RUN_DIR COMMAND...``, with the lifeline as standard input."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    run_dir, argv = Path(sys.argv[1]), sys.argv[2:]
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    code = watch(start(argv), sys.stdin.fileno(), wakeup)
    kill_all()
    shutil.rmtree(run_dir, ignore_errors=True)
    if code is None:
        return EXIT_SIGNAL + signal.SIGKILL
    return code if code >= 0 else EXIT_SIGNAL - code


if __name__ == "__main__":
    sys.exit(main())
