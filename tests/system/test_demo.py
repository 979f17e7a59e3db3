"""`headrace demo` as a command: how it starts, starts again, refuses, and ends."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from headrace.devcluster.loopback import free_port
from tests.support.parts import ROOT
from tests.support.processes import alive
from tests.support.running_demo import Demo, running

pytestmark = pytest.mark.timeout(180)

SIM = ("--engine", "sim")
PARTS = {"hub", "leaf", "sshd", "bridge", "edge", "worker-1", "engine-1"}
QUESTION: list[Any] = [{"role": "user", "content": "Hello!"}]
ENDLESS = {"SIM_TOKENS": "100000", "SIM_DELAY_MS": "20"}


@contextmanager
def client(demo: Demo, **options: Any) -> Iterator[openai.OpenAI]:
    info = demo.info()
    options = {"api_key": info["api_key"], "max_retries": 0, "timeout": 20} | options
    with openai.OpenAI(base_url=info["base_url"], **options) as made:
        yield made


def ask(demo: Demo) -> str:
    with client(demo) as api:
        answer = api.chat.completions.create(model=demo.info()["model"], messages=QUESTION)
    return answer.choices[0].message.content or ""


def answers(demo: Demo) -> bool:
    try:
        return bool(ask(demo))
    except openai.OpenAIError:
        return False


def gone(pids: dict[str, int], seconds: float) -> bool:
    """Whether all of these processes have ended within some seconds."""
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids.values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def refused(folder: Path, *options: str, **environ: str) -> str:
    """What a demo prints that does not come to serve."""
    command = str(Path(sys.executable).with_name("headrace"))
    done = subprocess.run(
        [command, "demo", "--dir", str(folder), *options],
        cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert not (folder / "info.json").exists()
    return done.stdout + done.stderr


def test_it_tells_what_programs_and_people_want_to_know(tmp_path: Path) -> None:
    with running(tmp_path, *SIM, "--workers", "2") as demo:
        info = demo.info()
        assert set(info["pids"]) == PARTS | {"worker-2", "engine-2"}
        assert all(alive(pid) for pid in info["pids"].values())
        assert set(info["engines"]) == {"worker-1", "worker-2"}
        for address in info["engines"].values():
            assert stat.S_ISSOCK(Path(address.removeprefix("unix:")).stat().st_mode)
        open_to_others = [
            path for path in demo.folder.rglob("*")
            if path.stat().st_mode & 0o077 and path.name != "demo.lock"
            and path.parent.name not in {"logs", "run"}
        ]  # fmt: skip
        demo.wait_for_line("Ctrl-C ends everything")
        output = demo.output()
    assert not open_to_others
    for told in (
        "joined, through SSH and the gate", "What runs where", "engine.sock",
        f"ready: {info['base_url']}  key {info['api_key']}", "curl -N", "from openai import OpenAI",
        "first token after",
    ):  # fmt: skip
        assert told in output
    assert gone(info["pids"], 0)
    assert not (demo.folder / "info.json").exists()
    assert demo.output().endswith("everything has ended\n")


def test_a_second_start_is_quick_and_keeps_key_and_ports(tmp_path: Path) -> None:
    with running(tmp_path, *SIM) as first:
        key = first.info()["api_key"]
        ports = (first.folder / "ports.json").read_text()
    began = time.monotonic()
    with running(tmp_path, *SIM) as second:
        assert time.monotonic() - began < 20
        assert second.info()["api_key"] == key
        assert (second.folder / "ports.json").read_text() == ports
        assert ask(second)


def test_demos_run_side_by_side_and_share_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "one", *SIM) as one, running(tmp_path / "two", *SIM) as two:
        assert ask(one)
        assert ask(two)
        key = two.info()["api_key"]
        with client(one, api_key=key) as stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_each_killed_part_is_started_again_and_told(tmp_path: Path) -> None:
    """What its death does to requests under way is for tests/faults to say."""
    with running(tmp_path, *SIM) as demo:
        for name in sorted(PARTS - {"engine-1"}):
            pid = demo.kill(name)
            deadline = time.monotonic() + 40
            while demo.info()["pids"].get(name, pid) == pid or not answers(demo):
                assert time.monotonic() < deadline, f"{name}\n{demo.output()}\n{demo.logs()}"
                time.sleep(0.05)
            assert f"{name} was ended by SIGKILL" in demo.output()
            assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_each_signal_ends_it_soon_with_an_answer_under_way(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path, *SIM, **ENDLESS) as demo, client(demo) as api:
        pids = demo.info()["pids"]
        stream = api.chat.completions.create(
            model=demo.info()["model"], messages=QUESTION, stream=True
        )
        next(stream)
        demo.process.send_signal(number)
        assert demo.process.wait(15) == 0
        stream.close()
    assert gone(pids, 0)


def test_a_signal_told_twice_is_one_and_a_second_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, *SIM, **ENDLESS) as demo, client(demo) as api:
        pids = demo.info()["pids"]
        stream = api.chat.completions.create(
            model=demo.info()["model"], messages=QUESTION, stream=True
        )
        next(stream)  # the edge waits for it, to its deadline
        for _ in range(2):
            demo.process.send_signal(signal.SIGINT)
        time.sleep(1.5)  # time enough to end, were it two
        assert demo.process.poll() is None
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(2) == 1
        stream.close()
    assert gone(pids, 0)


def test_nothing_survives_even_a_killed_demo(tmp_path: Path) -> None:
    with running(tmp_path, *SIM) as demo:
        pids = demo.info()["pids"]
        demo.process.kill()
        demo.process.wait()
        assert gone(pids, 5)
        with running(tmp_path, *SIM) as again:
            assert ask(again)


def test_without_openssh_the_embedded_server_serves(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from headrace.cli.demo import ssh_server;"
        "ssh_server.SSHD = Path('/no/sshd'); from headrace.cli.main import main; main()"
    )
    output = tmp_path / "output.txt"
    argv = [sys.executable, "-c", program, "demo", "--dir", str(tmp_path / "demo")]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*argv, "--port", str(free_port()), *SIM], stdout=file, stderr=file, cwd=ROOT
        )
    demo = Demo(tmp_path / "demo", process, output)
    try:
        demo.wait_for_line("ready:")
        assert ask(demo)
        assert "there is no /no/sshd: an embedded SSH server serves" in demo.output()
        pid = demo.kill("sshd")
        deadline = time.monotonic() + 40
        while demo.info()["pids"].get("sshd", pid) == pid or not answers(demo):
            assert time.monotonic() < deadline, demo.output()
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_a_taken_port_is_told_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is taken" in refused(tmp_path, "--port", str(port))


def test_two_demos_in_one_folder_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, *SIM) as demo:
        folder = demo.folder
        info = (folder / "info.json").read_text()
        command = [str(Path(sys.executable).with_name("headrace")), "demo", *SIM]
        done = subprocess.run(
            [*command, "--dir", str(folder), "--port", str(free_port())],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "a demo runs already" in done.stderr
        assert (folder / "info.json").read_text() == info
        assert ask(demo)


def test_a_part_that_refuses_its_configuration_ends_the_demo(tmp_path: Path) -> None:
    said = refused(
        tmp_path, *SIM, "--port", str(free_port()), HEADRACE_BRIDGE__METRICS_PORT="wrong"
    )
    assert "bridge refuses its configuration" in said
    assert "metrics_port" in said


def test_a_part_that_dies_again_and_again_ends_the_demo(tmp_path: Path) -> None:
    said = refused(
        tmp_path, *SIM, "--port", str(free_port()),
        HEADRACE_WORKER__ENGINE__COMMAND='["/bin/false", "{socket}"]',
    )  # fmt: skip
    assert "worker-1 ended with exit code 1, again and again" in said
    assert "worker-1.log" in said
