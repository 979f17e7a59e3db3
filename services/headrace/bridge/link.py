"""One cluster: its SSH connection, kept up, and the local port that leads through it."""

import asyncio
import random

import asyncssh

from headrace.bridge import backoff
from headrace.bridge.connection import connect
from headrace.bridge.metrics import ClusterMetrics
from headrace.bridge.options import BridgeCluster
from headrace.bridge.pipes import Pipes
from headrace.bridge.trouble import LinkDiagnosis, RepeatedLog, of_connection
from headrace.bridge.watchdog import LATE_SECONDS, TICK_SECONDS
from headrace.runtime.config import ConfigError
from headrace.runtime.lifecycle import FatalError
from headrace.runtime.logging import Logger


class Link:
    """The way to one cluster: `bind`, then `run`."""

    def __init__(self, cluster: BridgeCluster, log: Logger, metrics: ClusterMetrics) -> None:
        self._cluster = cluster
        self._log = log.bind(cluster=cluster.name)
        self._metrics = metrics
        self._complaints = RepeatedLog(self._log)
        self._pipes = Pipes(cluster, metrics, self._complaints, self._drop)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._server: asyncio.Server

    async def bind(self) -> None:
        """Take the local port. Raises FatalError."""
        port = self._cluster.listen_port
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._pipes.accept, "127.0.0.1", port
            )
        except OSError as error:
            raise FatalError(
                f"cluster {self._cluster.name}: cannot listen on port {port}: {error.strerror}"
            ) from error

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_connected(), name="connection")
                group.create_task(self._watch(), name="watchdog")
        finally:
            self._server.close()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            begun = loop.time()
            trouble = await self._connect_once()
            self._metrics.failed(trouble.code)
            self._complaints.utter(trouble.code, trouble.sentence)
            if loop.time() - begun > backoff.STEADY_SECONDS:
                failures = 0
            chance = random.random()  # noqa: S311  it spreads load and guards nothing
            await asyncio.sleep(backoff.wait(failures, refused=trouble.refused, chance=chance))
            failures += 1

    async def _connect_once(self) -> LinkDiagnosis:
        """Connect, wait for the end, and tell how it came."""
        try:
            connection, client = await connect(self._cluster)
        except ConfigError as error:
            return LinkDiagnosis("bad_file", str(error), refused=True)
        except (OSError, asyncssh.Error) as error:
            return of_connection(error, self._cluster)
        self._connection = connection
        self._pipes.attach(connection)
        self._metrics.connects.inc()
        self._metrics.up.set(1)
        self._log.info("connected", address=f"{self._cluster.host}:{self._cluster.port}")
        try:
            await connection.wait_closed()
        finally:
            self._connection = None
            self._pipes.detach()
            self._metrics.up.set(0)
            connection.abort()
        return of_connection(client.error, self._cluster)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = loop.time()
            self._pipes.look(now, late=now - last > LATE_SECONDS)
            last = now
