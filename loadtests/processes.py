"""What measurements and tests do with the processes that they start."""

import subprocess
from typing import Any


def ended(process: "subprocess.Popen[Any]", seconds: float) -> None:
    """Wait for the end of one that was asked to end; after so long it is killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
