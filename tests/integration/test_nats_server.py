"""The servers that all other tests stand on: both kinds start, die and come back."""

import json
import signal
import socket
from pathlib import Path

import pytest

from headrace.devcluster.loopback import free_port
from tests.support.nats_kit import NatsServer, StartNats


def info(port: int, timeout: float = 20.0) -> dict[str, object]:
    """What a server says of itself first."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        line = connection.makefile("rb").readline()
    decoded: dict[str, object] = json.loads(line.removeprefix(b"INFO "))
    return decoded


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(nats: StartNats, tmp_path: Path, port: int) -> NatsServer:
    config = tmp_path / "nats.conf"
    config.write_text(
        f"listen: 127.0.0.1:{port}\n"
        f'jetstream {{ domain: hub, store_dir: "{tmp_path / "jetstream"}", max_file_store: 1 }}\n'
    )
    config.chmod(0o600)
    return nats(config, port)


def test_the_server_has_jetstream_and_expiry_of_single_messages(
    server: NatsServer, port: int
) -> None:
    said = info(port)
    assert said["jetstream"] is True
    major, minor, *_ = str(said["version"]).split(".")
    assert (int(major), int(minor)) >= (2, 11), "per-message TTL came with 2.11"


def test_a_killed_server_comes_back_on_its_ports(server: NatsServer, port: int) -> None:
    before = info(port)["server_id"]
    server.kill()
    with pytest.raises(OSError, match=r"refused"):
        info(port)
    server.start()
    assert info(port)["server_id"] != before


def test_a_stopped_server_is_silent_until_it_goes_on(server: NatsServer, port: int) -> None:
    server.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        info(port, timeout=0.5)
    server.send_signal(signal.SIGCONT)
    assert info(port)["server_id"]


def test_the_log_tells_of_the_end(server: NatsServer) -> None:
    server.stop()
    server.stop()
    assert "Server Exiting" in server.log()
