"""Where things of the bench are and listen."""

import os
import random
import socket
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

_FIRST, _LAST = 20_000, 30_000
"""Below the kernel's own range: a client of a server that is not there yet can't be given it."""


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    while True:
        port = random.randrange(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def python_path() -> str:
    """PYTHONPATH with the checkout first, for children that are not started in it."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([given] if given else [])])
