"""Finds the engines below the workers, and where they listen, in what the kernel tells."""

from pathlib import Path
from typing import Final

from headrace.cli.demo import processes

SOCKET_OPTION: Final = b"--uds"
"""All of the demo's engines are told their socket this way."""


def find(worker: int) -> tuple[int, str] | None:
    """Process id and address of the engine below the process `worker`, if it runs by now."""
    found = None
    for pid in processes.descendants(worker):
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # gone meanwhile
        # The deepest: what starts the engine has the engine's command in its own.
        if SOCKET_OPTION in argv[:-1]:
            found = pid, f"unix:{argv[argv.index(SOCKET_OPTION) + 1].decode()}"
    return found
