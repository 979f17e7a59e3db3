"""Edge processes on one store and one hub, as a site runs them, and clients with people's keys."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headrace.devcluster.loopback import free_port
from headrace.gateway.admin.action import Actor
from headrace.gateway.admin.service import AdminService
from headrace.gateway.policy import api_keys
from headrace.gateway.store import migrations
from headrace.gateway.store.database import Database
from tests.support.edge_kit import MODEL, Edge, Hub, _end
from tests.support.stores import SECRET

ADA = "ada@example.org"
BOB = "bob@example.org"
EXTERNAL = "Sold-Model"
SOLD = f"""
name = "{EXTERNAL}"

[engine]
kind = "openai"
model = "sold-1"
key_file = "sold.key"

[price]
prompt = 2.5
completion = 10.0

[budget]
per_day = 100.0
"""
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "PLANTED-4c1"}]}


class Site:
    """A store, its administration, and the folder of the edges' configurations."""

    def __init__(self, folder: Path, hub: Hub, url: str) -> None:
        self.folder = folder
        self.hub = hub
        self.url = url
        self.database = Database(url)
        migrations.migrate(self.database)
        self.office = AdminService(self.database, SECRET, Actor("root", "cli"))
        self.static = api_keys.mint()
        secret = folder / "api.secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET.hex())
        (folder / "models.d").mkdir()
        self.sell()
        self._count = 0

    def sell(self, text: str = SOLD) -> None:
        """Put the file of the external model there."""
        (self.folder / "models.d/sold.toml").write_text(text)

    def config(self, port: int, **options: Any) -> Path:
        """An edge's file: plain options, and tables as dicts."""
        self._count += 1
        folder = self.folder / f"edge{self._count}"
        folder.mkdir()
        tables = {"bus": {"url": self.hub.url}, "store": {"url": self.url}}
        plain: dict[str, Any] = {
            "secret_file": "../api.secret", "port": port, "learn_seconds": 0,
            "external": "../models.d",
        }  # fmt: skip
        for name, value in options.items():
            if isinstance(value, Mapping):
                tables[name] = tables.get(name, {}) | dict(value)
            else:
                plain[name] = value
        digest = api_keys.digest(SECRET, self.static)
        lines = [
            *_lines(plain),
            *(line for name, table in tables.items() for line in (f"[{name}]", *_lines(table))),
            f'[[models]]\nname = "{MODEL}"\nendpoints = ["chat", "completions", "embeddings"]',
            f'[[keys]]\nid = "first"\ndigest = "{digest}"',
        ]
        path = folder / "edge.toml"
        path.write_text("\n".join(lines))
        return path

    def key(self, owner: str = ADA, **fields: Any) -> str:
        """A new key of somebody."""
        return self.office.keys.create(owner, make=True, **fields).key


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in table.items()]


StartGate = Callable[..., Edge]


@pytest.fixture
def site(hub: Hub, tmp_path: Path, store_url: str) -> Iterator[Site]:
    """On either database: the test runs once with each."""
    made = Site(tmp_path, hub, store_url)
    yield made
    made.database.close()


@pytest.fixture
def file_site(hub: Hub, tmp_path: Path) -> Iterator[Site]:
    """On SQLite alone, where the database makes no difference."""
    made = Site(tmp_path, hub, f"sqlite+pysqlite:///{tmp_path}/gateway.db")
    yield made
    made.database.close()


@pytest.fixture
def start_gate() -> Iterator[StartGate]:
    """Start an edge of a site."""
    with contextlib.ExitStack() as stack:

        def start(
            site: Site, *, ready: bool = True, key: str = "", port: int = 0, **options: Any
        ) -> Edge:
            port = port or free_port()
            config = site.config(port, **options)
            argv = [sys.executable, "-m", "headrace.edge.main", "--config", str(config)]
            with (config.parent / "edge.log").open("wb") as log:
                process = subprocess.Popen(argv, stdout=log, stderr=log)
            stack.callback(_end, process)
            edge = Edge(config.parent, port, key or site.static, process)
            if ready:
                edge.wait_ready()
            return edge

        yield start


def bearer(key: str) -> dict[str, str]:
    """The headers that show a key."""
    return {"authorization": f"Bearer {key}"}


Answered = tuple[int, dict[str, Any], Mapping[str, str]]
"""Status, JSON and headers."""


async def ask(http: aiohttp.ClientSession, edge: Edge, key: str, **body: Any) -> Answered:
    """One chat."""
    url = f"{edge.url}/v1/chat/completions"
    async with http.post(url, headers=bearer(key), json=CHAT | body) as answer:
        return answer.status, await answer.json(), answer.headers
