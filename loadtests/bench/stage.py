"""Headrace's own processes on this machine, part by part, as the demo would start them.

The demo keeps everything running; here one part can be left out, started with other options, or
started again while the others stay. Files, keys and permissions are those of `headrace init`.
"""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.cli import daemon_conf
from headrace.cli.credentials import write_private
from headrace.cli.demo import engine_watch, parts, ports, probes, processes, site, ssh_server
from headrace.cli.demo import workspace as workspaces
from headrace.cli.demo.engines import EngineTable
from headrace.cli.demo.part import Part
from headrace.cli.demo.workspace import Workspace
from headrace.cli.http import HttpError, get_json
from headrace.cli.site import Model as Offered
from headrace.cli.site import Site
from loadtests.bench.parts import Running, wait
from loadtests.bench.places import python_path

SLOTS: Final = 2048
"""Of worker and engine: what is measured is the path, never its queue."""


class Model(msgspec.Struct, frozen=True):
    """A model that has a worker. Its engine also listens on `port` of the loopback, if not 0."""

    name: str
    delay_ms: float = 0.0
    port: int = 0
    at_hub: bool = False
    """Whether the worker is on the web machine, with no SSH connection between."""
    slots: int = SLOTS
    engine_slots: int = SLOTS


class Stage:
    """Where parts run."""

    def __init__(self, place: Workspace, made: Site, stack: AsyncExitStack) -> None:
        self._place = place
        self._stack = stack
        self._running: dict[str, Running] = {}
        self.site = made
        self.url = f"http://127.0.0.1:{made.api_port}/v1"
        self.hub_url = f"nats://127.0.0.1:{made.hub_port}"
        self.leaf_url = f"nats://127.0.0.1:{made.clusters[0].leaf_port}"
        self.edge_seed = str(place.web / "keys/edge.nk")
        self.hub_worker_seed = str(place.web / "keys/hub-worker.nk")
        self.worker_seed = str(place.cluster / "keys/worker.nk")
        self.key = place.api_key()
        self._parts: dict[str, Part] = {}

    def knows(self, every: Sequence[Part]) -> None:
        """Take in what can be started by its name alone."""
        self._parts = {part.name: part for part in every}

    async def start(self, *names: str, **env: str) -> None:
        """Start these parts, one after the other. Raises NotServing."""
        for name in names:
            await self._start(self._parts[name], env)

    async def worker(self, model: Model, **env: str) -> str:
        """Start a worker and its engine; the engine's address on its Unix socket."""
        name = f"worker-{model.name}"
        file = self._place.cluster / f"{name}.toml"
        text = daemon_conf.worker(
            self.site.clusters[0], Offered(model.name), *_engine_tables(model)
        )
        write_private(file, text)
        like = parts.by_hand(self._place, self.site, "", 1)[0]
        argv = tuple(str(file) if each.endswith("worker.toml") else each for each in like.argv)
        part = msgspec.structs.replace(like, name=name, argv=argv)
        options = {**like.env, "HEADRACE_WORKER__SLOTS": str(model.slots)}
        if model.at_hub:
            options["HEADRACE_WORKER__BUS__URL"] = self.hub_url
            options["HEADRACE_WORKER__BUS__NKEY_FILE"] = self.hub_worker_seed
        await self._start(part, options | env)
        found: list[str] = []

        async def engine() -> bool:
            pair = engine_watch.find(self._running[name].pid)
            found[:] = [pair[1]] if pair else []
            return bool(found) and os.access(found[0].removeprefix("unix:"), os.F_OK)

        await self._running[name].ready(engine)
        return found[0]

    async def stop(self, *names: str) -> None:
        """End these parts."""
        for name in names:
            await self._running.pop(name).end()

    async def linked(self) -> None:
        """Wait until the hub has its link to the leaf."""
        await wait(probes.linked(self.site.hub_monitor_port), "the link between hub and leaf")

    async def served(self, *models: str) -> None:
        """Wait until the edge knows a ready worker of each of these models."""

        async def ready() -> bool:
            try:
                page: Any = get_json(f"{self.url}/models", self.key)
            except HttpError:
                return False
            workers = {each["id"]: each["headrace"]["workers"] for each in page["data"]}
            return all(workers.get(model) for model in models)

        await wait(ready, f"workers of {', '.join(models)}")

    def offer(self, models: Sequence[str]) -> None:
        """Let the edge offer these models, and no others, from its next start on."""
        made = msgspec.structs.replace(self.site, models=tuple(map(Offered, models)))
        path = self._place.web / "edge.toml"
        # Only the models change: the keys' digests stay as they were written.
        keys = path.read_text().partition("[[keys]]")[1:]
        write_private(path, daemon_conf.edge(made, []) + "\n" + "".join(keys))

    def pids(self) -> dict[str, int]:
        """Every process that is ours by name: also the gates and the workers' engines."""
        found = {name: running.pid for name, running in self._running.items()}
        for name, pid in list(found.items()):
            engine = engine_watch.find(pid) if name.startswith("worker-") else None
            if engine is not None:
                found[name.replace("worker", "engine")] = engine[0]
        if "sshd" in found:
            gates = [pid for pid in processes.descendants(found["sshd"]) if _is_gate(pid)]
            found |= {"gate": gates[-1]} if gates else {}
        return found

    def pid(self, name: str) -> int:
        """The process of one part."""
        return self._running[name].pid

    def edges(self) -> list[int]:
        """The edge's processes that serve: its children where there are several, or itself."""
        pid = self._running["edge"].pid
        return processes.descendants(pid) or [pid]

    async def _start(self, part: Part, env: Mapping[str, str]) -> None:
        running = Running(
            part.name,
            part.argv,
            {**part.env, **env},
            self._place.logs / f"{part.name}.log",
        )
        self._running[part.name] = running
        self._stack.push_async_callback(running.end)
        await running.ready(part.probe)


@asynccontextmanager
async def opened(models: Sequence[str]) -> AsyncIterator[Stage]:
    """A stage on which nothing runs yet; its edge will offer `models`. All ends with it."""
    # Not in the checkout: sockets want short paths.
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        workspaces.opened(Path(folder) / "d") as place,
    ):
        names = (*ports.NAMES, "api")
        chosen = ports.choose(place.root / "ports.json", names=names)
        made = site.make(place, chosen, chosen["api"])
        made = msgspec.structs.replace(
            made,
            models=tuple(map(Offered, models)),
            queue_bytes=4 << 30,  # a hundred thousand that wait must fit in
        )
        line = site.install(place, made, EngineTable(kind="command", command=("{socket}",)))
        server = ssh_server.prepare(place.run, line, chosen["ssh"])
        async with AsyncExitStack() as stack:
            stage = Stage(place, made, stack)
            stage.knows(parts.all_of(place, made, server, []))
            yield stage


@asynccontextmanager
async def whole(*models: Model, asleep: Sequence[str] = (), **edge: str) -> AsyncIterator[Stage]:
    """The whole path, with a worker for each of `models`; nobody serves those that are `asleep`."""
    async with opened([*(model.name for model in models), *asleep]) as stage:
        await stage.start("bridge", "sshd", "leaf", "hub")
        await stage.linked()
        for model in models:
            await stage.worker(model)
        await stage.start("edge", **edge)
        await stage.served(*(model.name for model in models))
        yield stage


def _engine_tables(model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    command = [sys.executable, "-m", "loadtests.simengine", "--uds", "{socket}"]
    command += ["--model", "{name}", "--slots", str(model.engine_slots)]
    command += ["--delay-ms", str(model.delay_ms)]
    command += ["--port", str(model.port)] if model.port else []
    return {"kind": "command", "command": command}, {"PYTHONPATH": python_path()}


def _is_gate(pid: int) -> bool:
    try:
        return b"/gate\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # gone meanwhile
