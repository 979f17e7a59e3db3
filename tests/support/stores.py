"""Real databases for the gateway's store: SQLite in a file, and a PostgreSQL of the tests' own."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from headrace.devcluster.loopback import free_port
from headrace.gateway.admin.action import Actor
from headrace.gateway.admin.service import AdminService
from headrace.gateway.store import migrations
from headrace.gateway.store.database import Database
from tests.support.parts import postgres as postgres_bin
from tests.support.parts import redis_server

SECRET = bytes(range(32))
ACTOR = Actor("root", "cli")
START_SECONDS = 30


class Postgres:
    """A server on a port of the loopback, with everything below one folder of its own."""

    def __init__(self) -> None:
        self._bin = postgres_bin()
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="hr-pg-"))
        self._data = self._folder / "data"
        # PostgreSQL refuses to run as root.
        root = os.geteuid() == 0
        self._as = ["runuser", "-u", "postgres", "--"] if root else []
        if root:
            shutil.chown(self._folder, "postgres")

    def start(self) -> None:
        user = ["-U", "headrace", "-A", "trust", "--no-sync"]
        self._run("initdb", "-D", str(self._data), *user)
        options = f"-k {self._folder} -p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def new(self) -> str:
        """The URL of a fresh database."""
        name = f"t{secrets.token_hex(6)}"
        server = f"host=127.0.0.1 port={self.port} user=headrace dbname=postgres"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://headrace@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        argv = [*self._as, str(self._bin / program), *arguments]
        subprocess.run(
            argv, check=True, stdout=subprocess.DEVNULL, timeout=START_SECONDS, cwd=self._folder
        )


@pytest.fixture(scope="module")
def postgres(guard_module: object) -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite+pysqlite:///{tmp_path}/gateway.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new()


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """A store, up to date and new."""
    made = Database(store_url)
    migrations.migrate(made)
    yield made
    made.close()


@pytest.fixture
def office(database: Database) -> AdminService:
    return AdminService(database, SECRET, ACTOR)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Valkey, or a Redis, of the test's own."""
    port = free_port()
    argv = [str(redis_server()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (tmp_path / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [*argv, "--appendonly", "no", "--dir", str(tmp_path)], stdout=log, stderr=log
        )
    try:
        _wait_for_redis(port)
        yield f"valkey://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _wait_for_redis(port: int) -> None:
    import socket
    import time

    deadline = time.monotonic() + 30
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                assert connection.recv(16).startswith(b"+PONG")
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
