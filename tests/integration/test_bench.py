"""The bench in its smallest form: every part of it works, and the page has all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parts import ROOT

pytestmark = [pytest.mark.openssh, pytest.mark.timeout(300)]

PARTS = {
    "ceilings", "side_by_side", "hops", "alone", "open_loop", "memory", "slow_reader", "growth",
}  # fmt: skip


def test_every_part_of_the_bench_works(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "loadtests.bench", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(
        [*argv, "--traces", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=280, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "bench.json").read_text())
    assert set(run["parts"]) == PARTS
    assert not any(part["failure"] for part in run["parts"].values())
    # Who has no recorded arrivals hears so, loudly.
    assert "THERE IS NO TRACE azure-llm-2023-conv.csv" in done.stdout
    page = (tmp_path / "README.md").read_text()
    assert "There was no trace azure-llm-2023-conv.csv" in page
    assert "This was a smoke run" in page
    for file in [line.split("](")[1].rstrip(")") for line in page.splitlines() if "![" in line]:
        assert (tmp_path / file).read_text().startswith("<?xml")
    rows = json.loads((tmp_path / "side-by-side.json").read_text())["levels"]
    assert {row["contender"] for level in rows for row in level["rows"]} == {"direct", "Headrace"}
    assert all(set(row["outcomes"]) == {"ok"} for level in rows for row in level["rows"])
