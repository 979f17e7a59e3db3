"""One writer per cluster: a lock on a file that all scalers of the installation share.

A POSIX lock is the kernel's, or the file server's: it goes with the process that holds it, however
that ends, so nothing is ever left stale.
"""

import fcntl
import os
from pathlib import Path


class LeaderLock:
    """The right to submit and end jobs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._descriptor is not None

    def take(self, who: str) -> bool:
        """Try to take it. `who` is written into the file, for people."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{who}\n".encode(), 0)
        self._descriptor = descriptor
        return True

    def holder(self) -> str:
        """Who has it, as far as the file tells."""
        try:
            return self._path.read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def give_up(self) -> None:
        """Let another one have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
