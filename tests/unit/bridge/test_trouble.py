"""What an operator is told: one sentence that names the place and what to do."""

import json
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from headrace.bridge import trouble
from headrace.bridge.options import BridgeCluster
from headrace.bridge.trouble import RepeatedLog, of_connection, of_exit
from headrace.gate import main
from headrace.runtime import logging
from tests.support.ssh_kit import new_key


@pytest.fixture
def cluster(tmp_path: Path) -> BridgeCluster:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"login.example.org {new_key(tmp_path / 'host').public}\n")
    return BridgeCluster(
        name="alpha",
        host="login.example.org",
        user="headrace",
        key="tunnel.key",
        known_hosts=str(known_hosts),
        listen_port=7500,
    )


@pytest.mark.parametrize(
    ("error", "code", "words", "refused"),
    [
        (None, "closed", "closed the connection", False),
        (ConnectionRefusedError(111, "Connection refused"), "unreachable", "refused", False),
        (TimeoutError(), "timeout", "firewall", False),
        (asyncssh.ConnectionLost("Connection lost"), "closed", "Connection lost", False),
        (asyncssh.PermissionDenied("no"), "key_refused", "authorized_keys", True),
        (asyncssh.KeyExchangeFailed("none"), "no_algorithm", "algorithm", True),
        (asyncssh.HostKeyNotVerifiable("no"), "host_key_changed", "in between", True),
    ],
)
def test_each_trouble_has_its_sentence(
    cluster: BridgeCluster, error: Exception | None, code: str, words: str, refused: bool
) -> None:
    found = of_connection(error, cluster)
    assert (found.code, found.refused) == (code, refused)
    assert words in found.sentence
    assert "login.example.org port 22" in found.sentence


def test_a_host_that_is_not_known_is_not_one_whose_key_has_changed(cluster: BridgeCluster) -> None:
    Path(cluster.known_hosts).write_text("other.example.org " + "ssh-ed25519 AAAA\n")
    found = of_connection(asyncssh.HostKeyNotVerifiable("no"), cluster)
    assert found.code == "host_unknown"
    assert "ssh-keyscan -p 22 login.example.org" in found.sentence


def test_a_servers_words_are_few_and_printable(cluster: BridgeCluster) -> None:
    said = of_connection(asyncssh.DisconnectError(2, "\x1b[31m\n" + "x" * 10_000), cluster).sentence
    assert said.isprintable()
    assert len(said) < 300


@pytest.mark.parametrize(
    "exit_code", [main.EXIT_USAGE, main.EXIT_UNREACHABLE, main.EXIT_CONFIG, 126, 127]
)
def test_each_exit_code_of_the_gate_has_its_sentence(exit_code: int) -> None:
    assert "exit code" not in (of_exit(exit_code) or "exit code")


def test_other_exit_codes() -> None:
    assert of_exit(0) is None
    assert "exit code 3" in (of_exit(3) or "")


def test_the_same_trouble_is_logged_once_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("headrace.bridge.trouble.time.monotonic", lambda: now)
    complaints = RepeatedLog(logging.setup("bridge"))
    for code in ("closed", "closed", "timeout", "closed"):
        complaints.utter(code, "a sentence")
    now += trouble.QUIET_SECONDS
    complaints.utter("closed", "a sentence")
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in capsys.readouterr().err.splitlines()
    ]
    assert [line["code"] for line in lines] == ["closed", "timeout", "closed"]
    assert all(line["reason"] == "a sentence" for line in lines)
