"""Headrace's own processes on this machine, part by part, as the demo would start them.

The demo keeps everything running; here one part can be left out, started with other options, or
started again while the others stay. Files, keys and permissions are those of `headrace init`.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from headrace.cli.demo import components, engine_watch, probes, processes
from headrace.cli.demo.component import Component, Probe
from headrace.cli.demo.workspace import Workspace
from headrace.cli.http import HttpError, get_json
from headrace.cli.setup import daemon_conf
from headrace.cli.setup.credentials import write_private
from headrace.cli.setup.site import Site, SiteModel
from headrace.devcluster.loopback import free_port
from loadtests.bench.models import SLOTS, Model
from loadtests.bench.parts import Running, wait


class Stage:
    """Where parts run. `every` are those that can be started by their name alone."""

    def __init__(
        self, place: Workspace, site: Site, every: Sequence[Component], stack: AsyncExitStack
    ) -> None:
        self._place = place
        self._site = site
        self._parts = {part.name: part for part in every}
        self._stack = stack
        self._running: dict[str, Running] = {}
        self._ports: dict[str, int] = {}
        self.web = place.web
        self.url = f"http://127.0.0.1:{site.api_port}/v1"
        self.key = place.api_key()
        self.hub_url = f"nats://127.0.0.1:{site.hub_port}"
        self.leaf_url = f"nats://127.0.0.1:{site.clusters[0].leaf_port}"
        self.edge_seed = str(place.web / "keys/edge.nk")
        self.hub_worker_seed = str(place.web / "keys/hub-worker.nk")
        self.worker_seed = str(place.cluster / "keys/worker.nk")
        self.cluster = site.clusters[0].name

    async def start(self, *names: str, **env: str) -> None:
        """Start these parts, one after the other. Raises NotServing."""
        for name in names:
            await self._start(self._parts[name], env)

    async def stop(self, *names: str) -> None:
        """End these parts."""
        for name in names:
            await self._running.pop(name).end()

    async def restart_edge(self, *models: str, **env: str) -> None:
        """Start the edge anew with these options; wait until it knows workers of `models`."""
        await self.stop("edge")
        await self.start("edge", **env)
        await self.served(*models)

    async def serve(self, *models: Model) -> None:
        """See to it that each of `models` has a worker that the edge knows. Raises NotServing."""
        for model in models:
            if f"worker-{model.name}" not in self._running:
                await self._worker(model)
        await self.served(*(model.name for model in models))

    async def served(self, *models: str) -> None:
        """Wait until the edge knows a ready worker of each of these models."""
        await wait(knows(self.url, self.key, models), f"workers of {', '.join(models)}")

    async def linked(self) -> None:
        """Wait until the hub has its link to the leaf."""
        await wait(probes.linked(self._site.hub_monitor_port), "the link between hub and leaf")

    def offer(self, models: Sequence[str]) -> None:
        """Let the edge offer these models, and no others, from its next start on."""
        made = msgspec.structs.replace(self._site, models=tuple(map(SiteModel, models)))
        path = self._place.web / "edge.toml"
        # Only the models change: the keys' digests stay as they were written.
        keys = path.read_text().partition("[[keys]]")[1:]
        write_private(path, daemon_conf.edge(made, []) + "\n" + "".join(keys))

    def engine(self, model: Model) -> str:
        """Where the engine of a model that is served listens, over TCP."""
        return f"http://127.0.0.1:{self._ports[model.name]}"

    def engine_socket(self, model: Model) -> str:
        """The same on the Unix socket that its worker uses."""
        found = engine_watch.find(self._running[f"worker-{model.name}"].pid)
        assert found is not None
        return found[1]

    def engine_port(self, model: Model) -> int:
        """The port of `engine`."""
        return self._ports[model.name]

    def pid(self, name: str) -> int:
        """The process of a part; ``gate`` and ``engine-MODEL`` are parts too."""
        return self.pids()[name]

    def pids(self) -> dict[str, int]:
        """Every process that is ours, by name."""
        found = {name: running.pid for name, running in self._running.items()}
        for name, pid in list(found.items()):
            engine = engine_watch.find(pid) if name.startswith("worker-") else None
            if engine is not None:
                found[name.replace("worker", "engine")] = engine[0]
        if "sshd" in found:
            gates = [pid for pid in processes.descendants(found["sshd"]) if _is_gate(pid)]
            found |= {"gate": gates[-1]} if gates else {}
        return found

    def path(self, *models: Model) -> dict[str, int]:
        """The processes between a client and the engines of `models`, by name."""
        workers = {f"worker-{model.name}" for model in models}
        return {
            name: pid
            for name, pid in self.pids().items()
            if name in workers or not name.startswith(("worker-", "engine-"))
        }

    async def _worker(self, model: Model) -> None:
        name = f"worker-{model.name}"
        self._ports[model.name] = free_port()
        file = self._place.cluster / f"{name}.toml"
        tables = model.tables(sys.executable, self._ports[model.name])
        cluster = self._site.clusters[0]
        write_private(file, daemon_conf.worker(cluster, SiteModel(model.name), *tables))
        like = components.by_hand(self._place, self._site, "", 1)[0]
        argv = tuple(str(file) if each.endswith("worker.toml") else each for each in like.argv)
        env = {**like.env, "HEADRACE_WORKER__SLOTS": str(SLOTS)}
        if model.at_hub:
            env["HEADRACE_WORKER__BUS__URL"] = self.hub_url
            env["HEADRACE_WORKER__BUS__NKEY_FILE"] = self.hub_worker_seed
        await self._start(msgspec.structs.replace(like, name=name, argv=argv), env)

        async def engine() -> bool:
            found = engine_watch.find(self._running[name].pid)
            return found is not None and os.access(found[1].removeprefix("unix:"), os.F_OK)

        await self._running[name].ready(engine)

    async def _start(self, part: Component, env: Mapping[str, str]) -> None:
        log = self._place.logs / f"{part.name}.log"
        running = Running(part.name, part.argv, {**part.env, **env}, log)
        self._running[part.name] = running
        self._stack.push_async_callback(running.end)
        await running.ready(part.probe)


def knows(url: str, key: str, models: Sequence[str]) -> Probe:
    """Whether the edge at `url` knows a ready worker of each of these models."""

    async def probe() -> bool:
        try:
            page: Any = get_json(f"{url}/models", key)
        except HttpError:
            return False
        workers = {each["id"]: each["headrace"]["workers"] for each in page["data"]}
        return all(workers.get(model) for model in models)

    return probe


def _is_gate(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123  # of no file's kind
            return b"/gate\0" in file.read()
    except OSError:
        return False  # gone meanwhile
