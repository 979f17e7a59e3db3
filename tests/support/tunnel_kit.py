"""A tunnel of real parts: key, gate, SSH server, bridge, and what listens at either end."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from headrace.devcluster.loopback import free_port, free_ports
from headrace.gate.script import authorized_key, render
from tests.support.nats_kit import StartNats
from tests.support.processes import alive
from tests.support.ssh_kit import Key, SshServer, StartSsh, children, new_key

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

BRIDGE = "import sys; from headrace.bridge.main import main; sys.exit(main())"
BACK_SECONDS = 10.0
"""How soon the service must be back after a fault."""
START_SECONDS = 60.0

HUB = """
server_name: hub
listen: "127.0.0.1:{hub}"
ping_interval: "{ping}s"
ping_max: 20  # whoever finds a dead link is the bridge
leafnodes {{
  reconnect: "1s"
  remotes: [ {{
    url: "nats-leaf://127.0.0.1:{link}"
    # Both servers are on one loopback: the hub must not learn the leaf's own address, and find a
    # way that is not the tunnel.
    ignore_discovered_servers: true
    first_info_timeout: "10s"
  }} ]
}}
"""

LEAF = """
server_name: leaf
listen: "127.0.0.1:{leaf}"
ping_interval: "{ping}s"
ping_max: 20
leafnodes {{ listen: "127.0.0.1:{gate}", no_advertise: true }}
"""


async def until(true: Callable[[], Any], seconds: float = BACK_SECONDS) -> float:
    """Wait until `true()` is, and tell how long that took."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


class Bridge:
    """A bridge as a process. It starts again with the same configuration."""

    def __init__(self, folder: Path, *clusters: dict[str, Any], metrics_port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "bridge.toml"
        lines = [f"metrics_port = {metrics_port}"]
        for cluster in clusters:
            # JSON's strings and numbers are TOML's as well.
            lines += ["[[clusters]]", *(f"{k} = {json.dumps(v)}" for k, v in cluster.items())]
        self.config.write_text("\n".join(lines))
        self.metrics_port = metrics_port
        self._log = folder / "bridge.log"
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        argv = [sys.executable, "-c", BRIDGE, "--config", str(self.config)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def log(self, action: str = "") -> list[dict[str, Any]]:
        """What it has logged: lines of JSON, those with `action` alone."""
        text = self._log.read_text() if self._log.exists() else ""
        whole, _, _ = text.rpartition("\n")  # of the last line only a part may be there yet
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if not action or line["action"] == action]

    def troubles(self) -> dict[str, str]:
        """The troubles it has told of: code and sentence."""
        return {line["code"]: line["reason"] for line in self.log("trouble")}

    async def ready(self) -> None:
        await until(lambda: self.log("ready") or self.process.poll() is not None, START_SECONDS)
        assert self.process.poll() is None, self._log.read_text()

    async def connected(self, count: int = 1, seconds: float = START_SECONDS) -> None:
        """Wait until it has connected so many times."""
        await until(lambda: len(self.log("connected")) >= count, seconds)

    def metrics(self) -> dict[str, float]:
        """Each series and its value."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        series = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in series}

    def peak_bytes(self) -> int:
        """The most memory that it has had resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if "VmHWM" in line)


class Tunnel:
    """An SSH server that admits one key to one gate, and a bridge that has the key."""

    def __init__(self, folder: Path, start_ssh: StartSsh, *, gate_port: int) -> None:
        self.folder = folder
        self.gate_port = gate_port
        self.gate = folder / "gate"
        self.gate.write_text(render("127.0.0.1", gate_port, sys.executable))
        self.gate.chmod(0o755)
        self.key: Key = new_key(folder / "tunnel.key")
        self.ssh: SshServer = start_ssh(
            folder / "ssh", authorized_key(str(self.gate), self.key.public)
        )

    def cluster(self, listen_port: int, **more: Any) -> dict[str, Any]:
        """The bridge's table for this tunnel."""
        return {
            "name": "alpha",
            "host": "127.0.0.1",
            "port": self.ssh.port,
            "user": self.ssh.user,
            "key": str(self.key.private),
            "known_hosts": str(self.ssh.known_hosts),
            "listen_port": listen_port,
        } | more

    def gates(self) -> list[int]:
        """The gates that run."""
        found, todo = [], [self.ssh.pid]
        while todo:
            pid = todo.pop()
            todo += children(pid)
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if str(self.gate).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(
                    b"\0"
                ):
                    found.append(pid)
        return found


class RawLeaf:
    """What listens at the gate's port: a plain TCP server in the place of a nats-server."""

    def __init__(self) -> None:
        self.port = free_port()
        self._accepted: asyncio.Queue[Streams] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator["RawLeaf"]:
        writers: list[asyncio.StreamWriter] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            self._accepted.put_nowait((reader, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for writer in writers:
                writer.close()

    async def accepted(self) -> Streams:
        """The next connection that a gate has made."""
        return await asyncio.wait_for(self._accepted.get(), 30)


class Joined:
    """Two nats-servers, joined through a tunnel."""

    def __init__(
        self,
        folder: Path,
        start_ssh: StartSsh,
        start_nats: StartNats,
        *,
        ping: int = 5,
        **more: Any,
    ) -> None:
        self.hub_port, self.leaf_port, self.link_port, gate_port, metrics = free_ports(5)
        self.tunnel = Tunnel(folder, start_ssh, gate_port=gate_port)
        ports = {
            "hub": self.hub_port,
            "leaf": self.leaf_port,
            "link": self.link_port,
            "gate": gate_port,
        }
        hub, leaf = folder / "hub.conf", folder / "leaf.conf"
        hub.write_text(HUB.format(ping=ping, **ports))
        leaf.write_text(LEAF.format(ping=ping, **ports))
        self.leaf = start_nats(leaf, self.leaf_port, gate_port)
        self.hub = start_nats(hub, self.hub_port)
        cluster = self.tunnel.cluster(self.link_port, **more)
        self.bridge = Bridge(folder, cluster, metrics_port=metrics)
        self._near: Client
        self._far: Client

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator["Joined"]:
        """Start the bridge and a client at each server; end them afterwards."""
        self.bridge.start()
        try:
            self._near = await _client(self.hub_port)
            self._far = await _client(self.leaf_port)

            async def echo(message: Msg) -> None:
                await message.respond(message.data)

            await self._far.subscribe("echo", cb=echo)
            try:
                await self.crossed(START_SECONDS)
                yield self
            finally:
                await self._near.close()
                await self._far.close()
        finally:
            for pid in self.tunnel.gates():  # one that is stopped would never end
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.bridge.stop()

    async def crossed(self, seconds: float = BACK_SECONDS) -> float:
        """Wait until the hub's client gets an answer of the leaf's, and tell how long."""
        begun = time.monotonic()
        token, came = os.urandom(8), asyncio.Event()

        async def answered(message: Msg) -> None:
            if message.data == token:
                came.set()

        # Any of the questions may be answered, however late: on a busy machine one takes its time.
        inbox = self._near.new_inbox()
        listening = await self._near.subscribe(inbox, cb=answered)
        while not came.is_set():
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"nothing crossed within {seconds} s")
            with contextlib.suppress(NatsError):
                await self._near.publish("echo", token, reply=inbox)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(came.wait(), 0.1)
        took = time.monotonic() - begun
        await listening.unsubscribe()
        return took

    async def severed(self, seconds: float = BACK_SECONDS) -> float:
        """Wait until nothing crosses any more."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            try:
                await self._near.request("echo", b"", timeout=0.25)
            except NatsError:
                return time.monotonic() - begun
            await asyncio.sleep(0.02)
        raise AssertionError(f"still connected after {seconds} s")


async def _client(port: int) -> Client:
    async def quiet(_error: Exception) -> None:
        """The servers go away on purpose."""

    return await nats.connect(
        f"nats://127.0.0.1:{port}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        error_cb=quiet,
    )


async def gone(pids: list[int]) -> None:
    """Wait until none of the processes runs."""
    await until(lambda: not any(alive(pid) for pid in pids))


class Way:
    """A way from `port` to another that can break off, or begin to swallow everything, as a
    firewall does that forgot us."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._halves: set[_Half] = set()

    @contextlib.asynccontextmanager
    async def run(self, target: int) -> AsyncIterator[None]:
        """Lead to `target`; then break off."""
        loop = asyncio.get_running_loop()

        def accept() -> _Half:
            near, far = _Half(), _Half()
            near.peer, far.peer = far, near
            self._halves |= {near, far}
            tasks.append(loop.create_task(loop.create_connection(lambda: far, "127.0.0.1", target)))
            return near

        tasks: list[asyncio.Task[Any]] = []
        server = await loop.create_server(accept, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()
            await asyncio.gather(*tasks, return_exceptions=True)
            for half in self._halves:
                half.transport.abort()

    def swallow(self) -> None:
        """From now on nothing comes through the connections that are open. New ones are well."""
        for half in self._halves:
            half.swallows = True


class _Half(asyncio.Protocol):
    """One side of a connection that may be swallowed. Bound by nothing: tests send little."""

    peer: "_Half"
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.swallows = False
        self._early = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._early)

    def data_received(self, data: bytes) -> None:
        if not self.swallows:
            self.peer.write(data)

    def write(self, data: bytes) -> None:
        if hasattr(self, "transport"):
            self.transport.write(data)
        else:
            self._early += data

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.swallows and hasattr(self.peer, "transport"):
            self.peer.transport.close()
