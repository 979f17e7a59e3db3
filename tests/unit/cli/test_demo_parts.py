"""The pieces of the demo that decide something: ports, the SSH server, engines, what is shown."""

import io
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from headrace.cli import resources
from headrace.cli.demo import engine_watch, engines, example_chat, ports, ssh_server
from headrace.cli.demo.engines import Engine
from headrace.cli.demo.example_chat import ChatFailure, Comment, Token
from headrace.cli.demo.screen import Screen
from headrace.devcluster import loopback
from headrace.runtime import engine as engine_options
from headrace.runtime.lifecycle import FatalError
from tests.support.parts import SSHD, why_missing


def test_ports_are_different_free_and_outside_the_kernels_own_range(tmp_path: Path) -> None:
    chosen = ports.choose(tmp_path / "ports.json", taken=[8080])
    assert set(chosen) == set(ports.NAMES)
    assert len(set(chosen.values())) == len(chosen)
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(loopback.is_free(port) and port < low for port in chosen.values())


def test_ports_are_remembered_unless_taken(tmp_path: Path) -> None:
    first = ports.choose(tmp_path / "ports.json")
    assert ports.choose(tmp_path / "ports.json") == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["hub"]))
        taken.listen()
        second = ports.choose(tmp_path / "ports.json", taken=[first["leaf"]])
    assert {name for name in first if first[name] != second[name]} == {"hub", "leaf"}


@pytest.mark.parametrize("text", ["", "[]", '{"hub": "x"}', '{"hub": 1e9}', "nonsense"])
def test_a_damaged_memory_of_ports_is_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert set(ports.choose(tmp_path / "ports.json")) == set(ports.NAMES)


@pytest.mark.skipif(why_missing("openssh") is not None, reason="needs sshd")
@pytest.mark.parametrize("strict", [True, False])
def test_openssh_accepts_its_configuration(tmp_path: Path, strict: bool) -> None:
    server = ssh_server.prepare(tmp_path, "restrict,command=x ssh-ed25519 AAAA", 2222)
    text = ssh_server.config(tmp_path, 2222, strict=strict, version=ssh_server.openssh_version())
    config = tmp_path / "config"
    config.write_text(text)
    done = subprocess.run([SSHD, "-T", "-f", config], capture_output=True, text=True, check=True)
    said = done.stdout.lower().splitlines()
    for line in (
        "allowtcpforwarding no", "passwordauthentication no", "port 2222",
        f"strictmodes {'yes' if strict else 'no'}", "listenaddress 127.0.0.1:2222",
    ):  # fmt: skip
        assert line in said
    assert server.what == "OpenSSH"


def test_new_openssh_must_not_lock_the_loopback_out(tmp_path: Path) -> None:
    for version, expected in (((9, 2), False), ((9, 8), True), ((10, 0), True)):
        text = ssh_server.config(tmp_path, 1, strict=False, version=version)
        assert ("PerSourcePenalties no" in text) == expected


def test_strict_modes_follow_the_path(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert not ssh_server.is_strict(tmp_path / "open")
    assert ssh_server.is_strict(Path("/usr"))


def test_without_openssh_the_embedded_server_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_server, "SSHD", tmp_path / "no-sshd")
    server = ssh_server.prepare(tmp_path, "line", 2222)
    assert server.what == "embedded"
    assert "no-sshd" in server.remark
    assert "headrace.cli.demo.embedded_sshd" in server.argv
    assert (tmp_path / "authorized_keys").read_text() == "line\n"


@pytest.mark.parametrize("engine", list(Engine))
def test_the_worker_accepts_each_engines_table(tmp_path: Path, engine: Engine) -> None:
    try:
        table = engines.table(engine, tmp_path, {})
    except FatalError as missing:
        pytest.skip(str(missing))
    made = engine_options.EngineOptions(
        kind=engine_options.EngineKind(table.kind), model=table.model, command=table.command,
        args=table.args, env=table.env,
    )  # fmt: skip
    engine_options.check(made)


def test_a_missing_engine_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "GGUF_PACKAGE", "no_such_package")
    with pytest.raises(FatalError, match="make demo"):
        engines.table(Engine.LLAMACPP, tmp_path)
    monkeypatch.setattr(resources, "checkout", lambda: tmp_path)
    with pytest.raises(FatalError, match="ENGINE=vllm"):
        engines.table(Engine.VLLM, tmp_path)
    monkeypatch.setattr(resources, "checkout", lambda: None)
    with pytest.raises(FatalError, match="checkout"):
        engines.table(Engine.SIM, tmp_path)


def chunk(**choice: object) -> str:
    return "data: " + json.dumps({"choices": [choice]})


def test_a_stream_is_told_as_it_comes() -> None:
    lines = [
        ": queued", "", chunk(delta={"role": "assistant", "content": ""}),
        chunk(delta={"content": "Hel"}), "", chunk(delta={"content": "lo"}),
        chunk(delta={}, finish_reason="stop"), 'data: {"choices": [], "usage": {}}',
        'data: {"error": {"message": "gone", "code": "worker_lost"}}', "data: [DONE]", "",
    ]  # fmt: skip
    assert list(example_chat.events(iter(lines))) == [
        Comment("queued"), Token("Hel"), Token("lo"), ChatFailure("gone"),
    ]  # fmt: skip


def test_lines_are_not_wrapped_and_text_is_not_markup() -> None:
    file = io.StringIO()
    screen = Screen(Console(file=file, width=40, highlight=False))
    screen.plain("ready: " + "x" * 100)
    screen.say("[bold]not markup[/bold] " + "y" * 60)
    screen.stream("a")
    screen.stream("b\n")
    first, second, third = file.getvalue().splitlines()
    assert first == "ready: " + "x" * 100
    assert re.fullmatch(r"\[ +\d\.\d s\] \[bold\]not markup\[/bold\] y{60}", second)
    assert third == "ab"


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    screen = Screen(Console(file=Gone(), highlight=False))
    screen.say("nobody reads this")
    screen.stream("nor this")


def test_the_engine_is_the_deepest_that_was_told_the_socket() -> None:
    inner = "import time; time.sleep(60)"
    outer = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', sys.argv[1],"
        " '--uds', '/tmp/x.sock']); print(p.pid, flush=True); p.wait()"
    )
    argv = [sys.executable, "-c", outer, inner, "--uds", "/tmp/x.sock"]
    with subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *argv],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            assert engine_watch.find(process.pid) == (pid, "unix:/tmp/x.sock")
        finally:
            subprocess.run(["kill", "-9", str(pid)], check=True)
    assert engine_watch.find(process.pid) is None
