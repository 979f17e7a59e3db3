"""The recipe of the README for a load generator of others, run as it stands there."""

import csv
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.parts import LOCUST, ROOT
from tests.support.running_demo import running

pytestmark = [pytest.mark.alone, pytest.mark.locust, pytest.mark.timeout(180)]

README = ROOT / "loadtests/README.md"


def recipe() -> list[str]:
    """Locust's command line in the README."""
    found = re.search(r"^\$ .*?(locust .*?[^\\])$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


def test_locust_loads_the_demo(tmp_path: Path) -> None:
    with running(tmp_path, "--engine", "sim") as demo:
        info = demo.info()
        words = recipe()
        words[words.index("--host") + 1] = info["base_url"].removesuffix("/v1")
        words[words.index("--run-time") + 1] = "3s"
        argv = [str(LOCUST), *words[1:], "--csv", str(tmp_path / "told")]
        done = subprocess.run(
            argv, cwd=ROOT, env={**os.environ, "API_KEY": info["api_key"], "PYTHONPATH": ""},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "told_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    assert int(rows["first token"]["Request Count"]) > 10
    assert int(rows["Aggregated"]["Failure Count"]) == 0
