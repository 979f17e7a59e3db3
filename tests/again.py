"""Run once more, alone, what failed among the tests on real parts: `python -m tests.again`.

A test of real processes may lose a race against the rest of a busy machine, and then nobody can
tell that from a defect by looking at one run. So it runs a second time, with nothing beside it: who
fails twice has failed, and who passes then is told by name, for it is a test to be mended. A unit
test has nothing to race with and gets no second time, nor do many failures at once.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

CACHE: Final = Path("var/tests/cache")
"""Where the runs before have put what failed: pytest's `cache_dir`."""

AT_MOST: Final = 5
"""More than these are no accident."""

REAL_PARTS: Final = ("tests/integration/", "tests/system/", "tests/faults/")


def failed(cache: Path) -> list[str]:
    """The node ids of the tests that failed; none if no run has kept its failures there."""
    try:
        kept = (cache / "v/cache/lastfailed").read_bytes()
    except FileNotFoundError:
        return []
    return sorted(msgspec.json.decode(kept, type=dict[str, bool]))


def refused(tests: Sequence[str]) -> str:
    """Why these do not run again; empty if they do."""
    if not tests:
        return "no test is known to have failed"
    if len(tests) > AT_MOST:
        return f"{len(tests)} tests failed, more than {AT_MOST}"
    if short := [test for test in tests if not test.startswith(REAL_PARTS)]:
        return f"it has nothing to race with: {short[0]}"
    return ""


def main() -> int:
    """The exit status: 0 if everything passes now."""
    tests = failed(CACHE)
    if why := refused(tests):
        print(f"headrace: nothing is run again: {why}", file=sys.stderr)
        return 1
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests], check=False
    )
    if again.returncode == 0:
        print("headrace: FAILED AT FIRST, PASSED ALONE; each is to be mended:")
        print("\n".join(f"headrace:     {test}" for test in tests), flush=True)
    return again.returncode


if __name__ == "__main__":
    raise SystemExit(main())
