"""Where things of the bench are."""

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def python_path() -> str:
    """PYTHONPATH with the checkout first, for children that are not started in it."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([given] if given else [])])
