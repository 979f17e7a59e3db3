"""Which failures get a second run, with pytest's own record of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import again

REAL = "tests/integration/test_bus.py::test_a"


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ([], "no test is known"),
        ([REAL] * 6, "6 tests failed, more than 5"),
        (
            [REAL, "tests/unit/gate/test_main.py::test_b"],
            "race with: tests/unit/gate/test_main.py::test_b",
        ),
    ],
)
def test_what_is_not_run_again(tests: list[str], why: str) -> None:
    assert why in again.refused(tests)


def test_what_is_run_again() -> None:
    assert again.refused([REAL, "tests/system/a.py::b[x-/y]", "tests/faults/a.py::c"]) == ""


def test_what_pytest_says_has_failed(tmp_path: Path) -> None:
    """Held against pytest itself: a failure, a broken setup, over two runs with their own files."""
    (tmp_path / "test_a.py").write_text("def test_bad(): assert 0\ndef test_good(): pass\n")
    (tmp_path / "test_b.py").write_text("def test_broken(nothing): pass\n")
    cache = tmp_path / "cache"
    assert again.failed(cache) == []
    for file in ("test_a.py", "test_b.py"):
        command = [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={cache}", file]
        ran = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True)
        assert ran.returncode == 1
    assert again.failed(cache) == ["test_a.py::test_bad", "test_b.py::test_broken"]
