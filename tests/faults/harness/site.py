"""A whole installation of real parts, with a proxy of ours on every way between machines.

    client - edge =edge= hub =hub= bridge =bridge= sshd - gate - leaf =worker-N= worker-N - engine

It is `headrace demo`'s, file by file; its parts can be killed one by one and come back by
themselves. Where an installation lies, what it may hold and how fast its engine writes is `Plan`.
"""

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from headrace.cli.demo import engine_watch, processes, ssh_server
from headrace.cli.setup import daemon_conf, installation
from headrace.cli.setup.credentials import write_private
from headrace.cli.setup.site import Site as Installation
from headrace.cli.setup.site import SiteCluster, SiteModel
from headrace.devcluster.loopback import free_ports
from headrace.gateway.policy import api_keys
from tests.faults.harness.disk import SmallDisk
from tests.faults.harness.parts import Part
from tests.faults.harness.proxy import LOOPBACK, Proxy
from tests.support.parts import nats_server
from tests.support.slurm_site import daemon, pythonpath

T = TypeVar("T")

MODEL: Final = "sim"
CLUSTER: Final = "alpha"
POLL_SECONDS: Final = 0.02
STOP_SECONDS: Final = 8.0
DRAIN_SECONDS: Final = 3.0
"""Of the edge."""
BROKEN: Final = "HEADRACE_TEST_BROKEN"


class Plan(msgspec.Struct, frozen=True):
    """What is built."""

    workers: int = 2
    peer: bool = True
    """Whether there is a second edge, which no fault hits, to clear up after the first one."""
    slots: int = 8
    engine_slots: int = 6
    """Fewer than the worker's: who comes last waits at the engine, before its first token."""
    delay_ms: float = 40.0
    deadline_seconds: float = 120.0
    silence_seconds: float = 6.0
    """After it the edge takes a silent worker for lost."""
    continues: str = "tokens"
    """How the engines go on after what another one has written."""
    queue_bytes: int = 16 << 20
    broken: str = ""
    """A mistake that is built in on purpose: see `tests.faults.broken`."""


class Queue(msgspec.Struct, frozen=True):
    """What the hub itself says of its stream."""

    messages: int
    pending: int
    given_out: int


class Site:
    """The installation. Use `running`."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self.folder = folder
        # Not below `folder`: that is long for a socket's path.
        self.run = Path(tempfile.mkdtemp(prefix="hr-site-"))
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.key = api_keys.mint()
        self.parts: dict[str, Part] = {}
        self.ways: dict[str, Proxy] = {}
        self.workers = [f"worker-{number + 1}" for number in range(plan.workers)]
        self.disks: dict[str, SmallDisk] = {}
        self.asides: list[asyncio.Task[None]] = []
        """What else asks here; it ends with the site."""
        self._metrics: dict[str, str] = {}
        self._ports: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Of the edge that faults hit."""
        return f"http://{LOOPBACK}:{self._ports['api']}/v1"

    @property
    def urls(self) -> list[str]:
        """Of every edge."""
        peers = [f"http://{LOOPBACK}:{self._ports['peer-api']}/v1"] if self.plan.peer else []
        return [self.url, *peers]

    async def start(self) -> None:
        """Write every file, start every part, and wait until all serve."""
        names = ("api", "peer-api", "hub", "monitor", "metrics", "leaf", "gate", "sshd", "link")
        ways = ("to-hub", "to-link", "to-sshd", *(f"to-leaf-{each}" for each in self.workers))
        each = (*names, *ways, *(f"metrics-{name}" for name in self.workers))
        self._ports = dict(zip(each, free_ports(len(each)), strict=True))
        self._install()
        self._add_ways()
        for way in self.ways.values():
            await way.start()
        for part in self.parts.values():
            part.start()
        await self.ready(60.0)

    async def stop(self) -> None:
        """End everything."""
        try:
            await self._stop_parts()
        finally:
            for disk in self.disks.values():
                disk.remove()
            shutil.rmtree(self.run, ignore_errors=True)

    async def _stop_parts(self) -> None:
        for task in self.asides:
            task.cancel()
        await asyncio.gather(*self.asides, return_exceptions=True)
        for way in self.ways.values():
            way.heal()
        for name in ("edge", "peer", *self.workers, "bridge", "sshd", "leaf", "hub"):
            if name in self.parts:
                await self.parts[name].end(STOP_SECONDS)
        for way in self.ways.values():
            await way.stop()

    async def ready(self, seconds: float) -> float:
        """Wait until every worker serves and the queue is empty; how long that took."""
        begun = time.monotonic()
        while not await self._is_ready():
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"not ready within {seconds:g} s\n{self.told()}")
            await asyncio.sleep(5 * POLL_SECONDS)
        return time.monotonic() - begun

    async def _is_ready(self) -> bool:
        if not (await self.workers_ready() == len(self.workers) and await self._calm()):
            return False
        # An edge that has just come back to the hub says so itself.
        pages = [f"{url.removesuffix('/v1')}/readyz" for url in self.urls]
        return all([await _quietly(_get, page) is not None for page in pages])

    async def workers_ready(self) -> int:
        """How many workers the edge may give work to."""
        page = await _quietly(self._get_json, f"{self.url}/models")
        models = page["data"] if page else []
        return sum(int(each["headrace"]["workers"]) for each in models)

    async def metric(self, part: str, name: str) -> float:
        """The sum of a part's series of this name; 0 where the part is not there."""
        text = await _quietly(_get, self._metrics[part])
        lines = (text or b"").decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name}{{", f"{name} "))
        )

    async def workers_metric(self, name: str) -> float:
        """The same of all workers together."""
        return sum([await self.metric(worker, name) for worker in self.workers])

    async def queue(self) -> Queue | None:
        """What waits at the hub; None where it does not say."""
        monitor = self._ports["monitor"]
        url = f"http://{LOOPBACK}:{monitor}/jsz?accounts=1&streams=1&consumers=1"
        about = await _quietly(self._get_json, url)
        if about is None:
            return None
        streams = [
            stream
            for account in about.get("account_details") or []
            for stream in account.get("stream_detail") or []
        ]
        consumers = [each for stream in streams for each in stream.get("consumer_detail") or []]
        return Queue(
            messages=sum(stream["state"]["messages"] for stream in streams),
            pending=sum(each.get("num_pending", 0) for each in consumers),
            given_out=sum(each.get("num_ack_pending", 0) for each in consumers),
        )

    async def _calm(self) -> bool:
        found = await self.queue()
        return found is not None and not found.messages

    def way(self, name: str) -> Proxy:
        """The way that leads from a part: edge, hub (to the bridge), bridge (to sshd), worker-N."""
        names = {"edge": "to-hub", "hub": "to-link", "bridge": "to-sshd"}
        return self.ways[names.get(name, f"to-leaf-{name}")]

    def engine_pid(self, worker: str) -> int:
        """The engine of a worker; 0 if there is none."""
        found = engine_watch.find(self.parts[worker].pid) if self.parts[worker].pid else None
        return found[0] if found else 0

    def sessions(self) -> list[int]:
        """The processes that serve SSH connections, and the gates below them."""
        return processes.descendants(self.parts["sshd"].pid) if self.parts["sshd"].pid else []

    def gates(self) -> list[int]:
        """The gates that run."""
        found = []
        gate = str(self.run / "gate").encode()
        for pid in self.sessions():
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if gate in argv:
                    found.append(pid)
        return found

    def told(self) -> str:
        """The ends of all logs, for a test's message."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}"
            for log in sorted(self.logs.glob("*.log"))
        )

    def _install(self) -> None:
        ports = self._ports
        cluster = SiteCluster(
            name=CLUSTER,
            ssh_host=LOOPBACK,
            ssh_port=ports["to-sshd"],  # what the bridge dials
            ssh_user=ssh_server.user(),
            host_keys=(ssh_server.host_key(self.run),),
            home=str(self.run),
            gate_python=ssh_server.gate_python(),
            leaf_host=LOOPBACK,
            leaf_listen=LOOPBACK,
            leaf_port=ports["leaf"],
            gate_port=ports["gate"],
            link_port=ports["link"],
            run_dir=str(self.run / "leaf"),
        )
        made = Installation(
            clusters=(cluster,),
            models=(SiteModel(MODEL),),
            api_port=ports["api"],
            hub_port=ports["hub"],
            hub_monitor_port=ports["monitor"],
            bridge_metrics_port=ports["metrics"],
            queue_bytes=self.plan.queue_bytes,
            run_dir=str(self.run / "hub"),
        )
        done = installation.install(self.folder / "site", made, api_key=self.key)
        web, own = self.folder / "site/web", self.folder / f"site/clusters/{CLUSTER}"
        for name in ("hub", "leaf"):
            (self.run / name).mkdir()
        for name in ("hub", *self.workers):
            (self.run / name).mkdir(exist_ok=True)
            self.disks[name] = SmallDisk(self.run / name)
        shutil.copy(own / "gate", cluster.gate_path)
        # What the hub dials is the proxy before the bridge's port.
        hub_conf = web / "hub.conf"
        link = f"127.0.0.1:{ports['link']}"
        assert link in hub_conf.read_text()
        write_private(hub_conf, hub_conf.read_text().replace(link, f"127.0.0.1:{ports['to-link']}"))
        engine: dict[str, str | float | tuple[str, ...]] = {
            "kind": "command",
            "command": (
                sys.executable, "-m", "loadtests.simengine", "--uds", "{socket}",
                "--model", "{name}", "--slots", str(self.plan.engine_slots),
                "--delay-ms", str(self.plan.delay_ms),
            ),
            "continues": self.plan.continues,
            # An engine that hangs is found out in seconds.
            "probe_seconds": 1.0,
            "probe_timeout_seconds": 2.0,
            "stop_seconds": 2.0,
        }  # fmt: skip
        env = {"PYTHONPATH": pythonpath()}
        write_private(
            own / "worker.toml", daemon_conf.worker(cluster, SiteModel(MODEL), engine, env)
        )
        sshd = ssh_server.prepare(self.run, done.authorized_keys[CLUSTER], ports["sshd"])
        nats = str(nats_server())
        self._add("hub", [nats, "-c", str(hub_conf)])
        self._add("leaf", [nats, "-c", str(own / "leaf.conf")])
        self._add("sshd", sshd.argv)
        self._add("bridge", daemon("bridge", web / "bridge.toml"))
        self._add_edge(web)
        for name in self.workers:
            self._add_worker(name, own)

    def _add_edge(self, web: Path) -> None:
        self._metrics["edge"] = f"{self.url.removesuffix('/v1')}/metrics"
        options = {
            "BUS__URL": f"nats://{LOOPBACK}:{self._ports['to-hub']}",
            "DEADLINE_SECONDS": self.plan.deadline_seconds,
            "WORKER_SILENCE_SECONDS": self.plan.silence_seconds,
            "HOLD_SECONDS": 0.5,
            "COMMENT_SECONDS": 1,
            "DRAIN_SECONDS": DRAIN_SECONDS,
        }
        env = {f"HEADRACE_EDGE__{key}": str(value) for key, value in options.items()}
        self._add("edge", self._daemon("edge", web / "edge.toml"), **env)
        if self.plan.peer:
            env["HEADRACE_EDGE__PORT"] = str(self._ports["peer-api"])
            env["HEADRACE_EDGE__BUS__URL"] = f"nats://{LOOPBACK}:{self._ports['hub']}"
            self._add("peer", self._daemon("edge", web / "edge.toml"), **env)

    def _add_worker(self, name: str, own: Path) -> None:
        port = self._ports[f"metrics-{name}"]
        self._metrics[name] = f"http://{LOOPBACK}:{port}/metrics"
        options = {
            "BUS__URL": f"nats://{LOOPBACK}:{self._ports[f'to-leaf-{name}']}",
            "SLOTS": self.plan.slots,
            "METRICS_PORT": port,
            "DRAIN_SECONDS": 1,
        }
        env = {f"HEADRACE_WORKER__{key}": str(value) for key, value in options.items()}
        self._add(
            name, self._daemon("worker", own / "worker.toml"), TMPDIR=str(self.run / name), **env
        )

    def _daemon(self, name: str, config: Path) -> list[str]:
        argv = daemon(name, config)
        if not self.plan.broken:
            return argv
        entry = f"import sys; from tests.faults.broken import {name}; sys.exit({name}())"
        return [entry if "import main" in word else word for word in argv]

    def _add(self, name: str, argv: Any, **env: str) -> None:
        env = {"PYTHONPATH": pythonpath(), BROKEN: self.plan.broken, **env}
        self.parts[name] = Part(name, argv, self.logs, env)

    def _add_ways(self) -> None:
        targets = {"to-hub": "hub", "to-link": "link", "to-sshd": "sshd"}
        targets |= {f"to-leaf-{worker}": "leaf" for worker in self.workers}
        for name, target in targets.items():
            self.ways[name] = Proxy(self._ports[name], self._ports[target])

    def _get_json(self, url: str) -> Any:
        return json.loads(_get(url, self.key))


def _get(url: str, key: str = "") -> bytes:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=2) as answer:
        data: bytes = answer.read()
        return data


async def _quietly(call: Callable[..., T], *arguments: Any) -> T | None:
    try:
        return await asyncio.to_thread(call, *arguments)
    except (OSError, ValueError):
        return None


async def until(true: Callable[[], Awaitable[Any] | Any], seconds: float, what: str) -> float:
    """Wait until `true()` is, and tell how long that took. Raises AssertionError with `what`."""
    begun = time.monotonic()
    while True:
        found = true()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return time.monotonic() - begun
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def running(folder: Path, plan: Plan | None = None) -> AsyncIterator[Site]:
    """A site that serves; nothing of it is left afterwards."""
    site = Site(folder, plan or Plan())
    try:
        await site.start()
        yield site
    finally:
        await site.stop()
