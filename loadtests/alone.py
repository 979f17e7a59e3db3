"""An edge by itself, with a store and without a hub: for what it decides before it needs one."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from headrace.gateway.policy import api_keys
from headrace.gateway.store import migrations
from headrace.gateway.store.database import Database

START_SECONDS = 60.0


@contextlib.contextmanager
def edge_alone() -> Iterator[tuple[int, Path]]:
    """Its port and its log."""
    with tempfile.TemporaryDirectory(prefix="hr-alone-") as name:
        folder = Path(name)
        api_keys.create_secret(folder / "api.secret")
        database = Database(f"sqlite+pysqlite:///{folder}/gateway.db")
        migrations.migrate(database)
        database.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        config = folder / "edge.toml"
        config.write_text(
            f'secret_file = "api.secret"\nport = {port}\nlearn_seconds = 0\n'
            '[bus]\nurl = "nats://127.0.0.1:1"\n[store]\nurl = "sqlite:///gateway.db"\n'
        )
        log = folder / "edge.log"
        with log.open("wb") as file:
            argv = [sys.executable, "-m", "headrace.edge.main", "--config", str(config)]
            process = subprocess.Popen(argv, stdout=file, stderr=file)
        try:
            _wait(port)
            yield port, log
        finally:
            process.terminate()
            process.wait(60)


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
