"""docs/guides/gateway.md, followed to the letter: its commands are run, its TOML is added."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import nkeys
import pytest

from headrace.cli.setup import credentials
from headrace.devcluster.loopback import free_ports
from headrace.protocol import names, subjects
from headrace.protocol.names import Slug
from headrace.runtime.logging import setup
from headrace.runtime.nats.bus import Bus, BusOptions
from tests.integration.test_gateway_signin import Visitor, provider
from tests.support.edge_kit import Edge, ScriptedWorker, eventually, until, whole
from tests.support.gateway_edges import bearer
from tests.support.nats_site import new_seed
from tests.support.parts import ROOT

pytestmark = pytest.mark.anyio

GUIDE: Final = ROOT / "docs/guides/gateway.md"
BLOCK: Final = re.compile(r"^```(console|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS: Final = 60

__all__ = ["provider"]  # a fixture


def blocks() -> list[tuple[str, str]]:
    """What is to be done, in order: up to the part that only explains."""
    steps = GUIDE.read_text().partition("## Who may use what")[0]
    return [(kind, text) for kind, text in BLOCK.findall(steps)]


class Follower:
    """Somebody who does what the page says, on a machine where addresses are others."""

    def __init__(self, folder: Path, provider: str) -> None:
        self.folder = folder
        api, hub, monitor, metrics, link = free_ports(5)
        self.hub, self.api = hub, api
        self.url = f"http://127.0.0.1:{api}"
        self.said: dict[str, str] = {}
        self._running: list[subprocess.Popen[bytes]] = []
        # The worker is the test's own: a cluster, which this page does not have, has such a user.
        self.seed = folder / "worker.nk"
        credentials.write_private(self.seed, seed := new_seed())
        user = nkeys.from_seed(bytearray(seed.encode())).public_key.decode()
        self._words = {
            "exec nats-server": f"sed -i 's/users: \\[/users: [ {{ nkey: {user} }}/' hub.conf && "
            "exec nats-server",
            "https://idp.example.org": provider,
            "https://llm.example.org": self.url,
            "headrace init site": f"headrace init site --api-port {api} --hub-port {hub} "
            f"--hub-monitor-port {monitor} --bridge-metrics-port {metrics} --link-port {link}",
            # What this machine may not have.
            "jq -r .key key.json": f"{sys.executable} -c 'import json; "
            'print(json.load(open("key.json"))["key"])\'',
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environ = {**os.environ, "PATH": path}
        # Where the package is not installed but found by PYTHONPATH its programs are, too.
        programs = folder / "bin"
        programs.mkdir()
        for name, module in (("headrace", "cli.main"), ("headrace-edge", "edge.main")):
            script = f"import sys; from headrace.{module} import main; sys.exit(main())"
            (programs / name).write_text(f"#!/bin/sh\nexec {sys.executable} -c '{script}' \"$@\"\n")
            (programs / name).chmod(0o755)
        self._environ["PATH"] = f"{programs}:{path}"

    def follow(self, kind: str, text: str) -> None:
        for words, ours in self._words.items():
            text = text.replace(words, ours)
        if kind == "toml":
            with (self.folder / "site/web/edge.toml").open("a") as file:
                file.write(f"\n{text}")
            return
        for line in text.splitlines():
            assert line.startswith("$ "), f"not a command: {line}"
            self._run(line.removeprefix("$ "))

    def _run(self, command: str) -> None:
        if command.endswith("&"):
            with (self.folder / "daemons.log").open("ab") as log:
                process = subprocess.Popen(
                    ["bash", "-c", command[:-1]], cwd=self.folder, env=self._environ,
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self._running.append(process)
            return
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder, env=self._environ, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self.said[command] = done.stdout

    def wait(self) -> None:
        """Until the edge takes requests."""
        edge = Edge(self.folder, self.api, "", self._running[-1])
        until(lambda: _ready(edge), 60, (self.folder / "daemons.log").read_text)

    def output(self, start: str) -> str:
        """What the command printed that begins so."""
        return next(text for command, text in self.said.items() if command.startswith(start))

    def end(self) -> None:
        for process in reversed(self._running):
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ready(edge: Edge) -> bool:
    try:
        return edge.get("/readyz")[0] == 200
    except OSError:
        return False


@pytest.fixture
def follower(tmp_path: Path, provider: str) -> Iterator[Follower]:
    made = Follower(tmp_path, provider)
    yield made
    made.end()


async def ask(http: aiohttp.ClientSession, url: str, key: str, model: str) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    async with http.post(f"{url}/v1/chat/completions", headers=bearer(key), json=body) as answer:
        return answer.status, await answer.json()


async def test_the_guide_leads_from_nothing_to_a_usage_report(follower: Follower) -> None:
    steps = blocks()
    assert len(steps) >= 7
    *first, report = steps
    for kind, text in first:
        await asyncio.to_thread(follower.follow, kind, text)
        if "headrace-edge" in text:
            await asyncio.to_thread(follower.wait)

    # The key that expires, and what it opens.
    made = json.loads((follower.folder / "key.json").read_text())
    assert made["expires"] - made["created"] == pytest.approx(30 * 86400, abs=1)
    listed = json.loads(follower.output("curl"))["data"]
    assert [each["id"] for each in listed] == ["Qwen/Qwen3-8B", "small"]
    limits = follower.output("headrace limits list")
    assert "60 requests per minute, each" in limits
    assert "2 at once, each" in limits

    # Somebody signs in and makes a key.
    edge = Edge(follower.folder, follower.api, "", follower._running[-1])
    person = Visitor(edge)
    location = await asyncio.to_thread(person.sign_in, "stu-4")
    assert (await asyncio.to_thread(person.ask, location))[0] == 303
    form = await asyncio.to_thread(person.form)
    text = (await asyncio.to_thread(person.ask, "/account/keys", {"form": form, "days": "7"}))[1]
    found = re.search(r'id="new-key">(hr_\w+)<', text)
    assert found is not None
    student = found[1]

    # Both ask; the worker is ours.
    id = names.new_process_id()
    bus = Bus(setup("test", "error"), name="scripted", inbox=subjects.worker_inbox(id))
    await bus.connect(BusOptions(f"nats://127.0.0.1:{follower.hub}", str(follower.seed)))
    worker = ScriptedWorker(bus, id)
    await worker.start()
    async with aiohttp.ClientSession() as http:
        asked = asyncio.create_task(ask(http, follower.url, student, "small"))
        await (await worker.take(model=Slug("small"))).answer(whole("x"))
        assert (await asked)[0] == 200
        assert (await ask(http, follower.url, student, "Qwen/Qwen3-8B"))[0] == 404
        asked = asyncio.create_task(ask(http, follower.url, made["key"], "Qwen/Qwen3-8B"))
        await (await worker.take(model=Slug("qwen-qwen3-8b"))).answer(whole("x"))
        assert (await asked)[0] == 200
    await bus.close()

    def by_model() -> dict[str, int]:
        follower.follow(*report)
        told = json.loads(follower.output("headrace usage --by model"))
        return {each["model"]: each["requests"] for each in told}

    async def both_are_accounted() -> bool:
        return await asyncio.to_thread(by_model) == {"Qwen/Qwen3-8B": 1, "small": 1}

    await eventually(both_are_accounted, 60)
    await asyncio.to_thread(by_model)  # the other tables may have been shown before
    table = follower.output("headrace usage --by day")
    assert "chemistry" in table
    assert "students" in table
    assert (follower.folder / "usage.csv").read_text().count("\n") == 3
