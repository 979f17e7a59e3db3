"""`headrace demo --slurm`: a model that sleeps, jobs that wake for it, and nothing left of them."""

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from headrace.devcluster.cluster import LocalSlurm
from tests.support.processes import alive
from tests.support.running_demo import Demo, running

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(240)]

NODES = {"gpu1", "gpu2", "gpu3", "gpu4"}
PARTS = {"hub", "leaf", "sshd", "bridge", "edge", "scaler", "slurmctld", "munged"} | NODES
QUESTION: list[Any] = [{"role": "user", "content": "Hello!"}]
SLUG = "smollm2-135m-instruct"


def ask(demo: Demo) -> str:
    info = demo.info()
    with openai.OpenAI(base_url=info["base_url"], api_key=info["api_key"], timeout=60) as client:
        answer = client.chat.completions.create(model=info["model"], messages=QUESTION)
    return answer.choices[0].message.content or ""


def operator(demo: Demo, *words: str, code: int = 0) -> str:
    """What an operator's command prints, run as in a second terminal."""
    config = demo.folder / "clusters/local/scaler.toml"
    done = subprocess.run(
        [str(Path(sys.executable).with_name("headrace")), *words, "--config", str(config)],
        env={**os.environ, **local(demo).environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}\n{demo.logs()}"
    return done.stdout


def jobs(demo: Demo) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(operator(demo, "jobs", "--json"))
    return rows


def local(demo: Demo) -> LocalSlurm:
    """The demo's Slurm, to look at its processes."""
    command = Path(f"/proc/{demo.info()['pids']['slurmctld']}/cmdline").read_bytes().split(b"\0")
    return LocalSlurm(Path(command[command.index(b"-f") + 1].decode()).parent)


def until(what: Callable[[], bool], demo: Demo, seconds: float = 80.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"{demo.output()}\n{demo.logs()}"
        time.sleep(0.2)


def ready(demo: Demo) -> list[int]:
    return [row["job"] for row in jobs(demo) if row["phase"] == "ready"]


def test_from_zero_to_an_answer_and_back_through_a_real_slurm(tmp_path: Path) -> None:
    with running(tmp_path, "--slurm", "--engine", "sim") as demo:
        assert set(demo.info()["pids"]) >= PARTS
        slurm = local(demo)

        # Its own first request wakes the model.
        demo.wait_for_line("Ctrl-C ends everything")
        output = demo.output()
        waited = re.findall(r": queued .*state=(\w+)", output)
        assert waited[0] in {"cold", "pending"}  # the first is told after two seconds
        assert set(waited) <= {"cold", "pending", "loading", "ready"}
        assert "first token after" in output

        until(lambda: len(ready(demo)) == 1, demo)
        (row,) = jobs(demo)
        assert (row["model"], row["node"] in NODES) == (SLUG, True)
        name = f"worker-{row['job']}"
        until(lambda: name in demo.info()["engines"], demo)
        socket = Path(demo.info()["engines"][name].removeprefix("unix:"))
        assert stat.S_ISSOCK(socket.stat().st_mode)
        assert ask(demo)
        assert demo.info()["model"] in operator(demo, "top", "--once")
        found = json.loads(operator(demo, "doctor", "--web", str(demo.folder / "web"), "--json"))
        assert not [each for each in found if each["level"] == "bad"]

        # A model that is drained has no job, and does not get one.
        assert "--reset" in operator(demo, "drain", SLUG)
        until(lambda: not jobs(demo), demo)
        operator(demo, "scale", SLUG, "--reset")
        assert ask(demo)

        # A job that is drained is replaced where somebody wants one.
        operator(demo, "scale", SLUG, "--pin", "1")
        until(lambda: len(ready(demo)) == 1, demo)
        (first,) = ready(demo)
        operator(demo, "drain", str(first))
        until(lambda: len(ready(demo)) == 1 and ready(demo) != [first], demo)
        operator(demo, "drain", "4000000", code=1)
        assert slurm.job_processes(*slurm.nodes)
        pids = demo.info()["pids"]
    assert not [pid for pid in pids.values() if alive(pid)]
    assert not slurm.job_processes(*slurm.nodes)
    assert demo.output().endswith("everything has ended\n")


def test_no_job_survives_a_killed_demo(tmp_path: Path) -> None:
    with running(tmp_path, "--slurm", "--engine", "sim") as demo:
        slurm = local(demo)
        until(lambda: any(name.startswith("engine-") for name in demo.info()["pids"]), demo)
        pids = demo.info()["pids"]
        demo.process.kill()
        demo.process.wait()
        deadline = time.monotonic() + 30
        while [pid for pid in pids.values() if alive(pid)] or slurm.job_processes(*slurm.nodes):
            assert time.monotonic() < deadline
            time.sleep(0.1)
