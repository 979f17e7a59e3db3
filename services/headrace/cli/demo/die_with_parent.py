"""Runs a command that dies with its parent, even where that is killed with SIGKILL.

``python -IS die_with_parent.py PARENT COMMAND...`` asks the kernel for it (PR_SET_PDEATHSIG,
prctl(2)) and then becomes the command, so the process id stays the same. A program of its own,
because code between fork and exec is not safe where the parent has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command, which ends with the process of id PARENT."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before we asked
        sys.exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606  # no shell is what we want
    except OSError as error:
        sys.exit(f"cannot start {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
