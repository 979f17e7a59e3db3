"""A real nats-server for a test, as a process or in a container, behind one interface.

A test asks for the fixture `nats` and runs with both; the container's run carries the marker
`containers`. The same configuration file serves both: the container shares the host's network and
the file's folder. Tests that would gain nothing from the second run ask for `nats_process`.
"""

import contextlib
import io
import os
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from loadtests.processes import ended
from tests.support.parts import ROOT, nats_server

START_SECONDS = 60.0
STOP_SECONDS = 5.0
IMAGE = "localhost/headrace/nats-server:test"
CONTAINERFILE = ROOT / "infra/containers/nats/Containerfile"


class NatsServer(Protocol):
    """A server that runs. It starts again with the same configuration, and so on the same ports."""

    def start(self) -> None:
        """Start, and wait until the server listens on its ports."""

    def stop(self) -> None:
        """Ask the server to end, and wait for it. Doing it twice does no harm."""

    def kill(self) -> None:
        """End the server with SIGKILL and wait until it is gone."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal. SIGSTOP makes a server that is connected and silent."""

    def log(self) -> str:
        """All that the server has written since it first started."""


class StartNats(Protocol):
    """Start a server whose configuration makes it listen on `ports`; it ends with the test."""

    def __call__(self, config: Path, *ports: int) -> NatsServer: ...


def _wait_for(server: NatsServer, ports: tuple[int, ...], alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if not alive() or time.monotonic() > deadline:
                    raise AssertionError(f"nats-server is not on {port}:\n{server.log()}") from None
                time.sleep(0.02)


def _wait_until_stopped(pid: int) -> None:
    """Threads stop one after the other: the last ones may still answer when the signal is sent."""
    deadline = time.monotonic() + STOP_SECONDS
    while not all(
        stat.read_text().rpartition(")")[2].split()[0] == "T"
        for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.01)


class NatsProcess:
    """A nats-server as a child of the test."""

    def __init__(self, config: Path, *ports: int) -> None:
        self._config = config
        self._ports = ports
        self._log = config.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        argv = [str(nats_server()), "-c", str(self._config)]
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(argv, stdout=log, stderr=log)
        _wait_for(self, self._ports, lambda: process.poll() is None)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        if number == signal.SIGSTOP:
            _wait_until_stopped(self.pid)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _end(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)  # a stopped server hears nothing else
        ended(self._process, STOP_SECONDS)


class NatsContainer:
    """A nats-server in a container of the project's own image, on the host's network."""

    def __init__(self, config: Path, *ports: int) -> None:
        # Imported here: only the tests marked `containers` need it.
        from testcontainers.core.container import DockerContainer

        self._ports = ports
        self._container: Any = (
            DockerContainer(IMAGE)
            .with_command(["-c", str(config)])
            # The same path inside and outside, so that paths in the configuration hold in both.
            .with_volume_mapping(str(config.parent), str(config.parent), "rw")
            .with_kwargs(network_mode="host", user=f"{os.getuid()}:{os.getgid()}")
        )
        self._created = False

    def start(self) -> None:
        if self._created:
            self._inner.start()
        else:
            self._container.start()
            self._created = True
        _wait_for(self, self._ports, self._alive)

    def stop(self) -> None:
        if self._alive():
            self._inner.stop(timeout=int(STOP_SECONDS))

    def kill(self) -> None:
        if self._alive():
            self._inner.kill()
            self._inner.wait(timeout=STOP_SECONDS)

    def send_signal(self, number: signal.Signals) -> None:
        self._inner.kill(signal=int(number))
        if number == signal.SIGSTOP:
            self._inner.reload()
            _wait_until_stopped(int(self._inner.attrs["State"]["Pid"]))

    def log(self) -> str:
        return bytes(self._inner.logs()).decode(errors="replace") if self._created else ""

    def remove(self) -> None:
        if self._created:
            self._container.stop(force=True)

    @property
    def _inner(self) -> Any:
        return self._container.get_wrapped_container()

    def _alive(self) -> bool:
        if not self._created:
            return False
        self._inner.reload()
        return bool(self._inner.status == "running")


def build_image() -> None:
    """Build the project's image around the pinned binary."""
    import docker

    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        tar.add(CONTAINERFILE, "Containerfile")
        tar.add(nats_server(), "nats-server")
    context.seek(0)
    with contextlib.closing(docker.from_env()) as client:
        client.images.build(
            fileobj=context, custom_context=True, dockerfile="Containerfile", tag=IMAGE, rm=True
        )


@pytest.fixture(scope="session")
def nats_image() -> str:
    build_image()
    return IMAGE


@pytest.fixture
def nats_process() -> Iterator[StartNats]:
    """Start servers as processes."""
    with contextlib.ExitStack() as servers:

        def start(config: Path, *ports: int) -> NatsServer:
            server = NatsProcess(config, *ports)
            servers.callback(server.stop)
            server.start()
            return server

        yield start


@pytest.fixture
def nats_container(nats_image: str) -> Iterator[StartNats]:
    """Start servers in containers."""
    with contextlib.ExitStack() as servers:

        def start(config: Path, *ports: int) -> NatsServer:
            server = NatsContainer(config, *ports)
            servers.callback(server.remove)
            server.start()
            return server

        yield start


@pytest.fixture(
    params=[
        "nats_process",
        pytest.param("nats_container", marks=pytest.mark.containers),
    ]
)
def nats(request: pytest.FixtureRequest) -> StartNats:
    """Start servers both ways: the test runs once with processes and once with containers."""
    start: StartNats = request.getfixturevalue(request.param)
    return start
