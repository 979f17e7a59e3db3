"""The scaler's life: wait for the lease, then one round after the other."""

import asyncio
import os
import random
import socket
import time
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from headrace.protocol import codec, names, subjects
from headrace.protocol.errors import HeadraceError
from headrace.protocol.names import Slug
from headrace.runtime import metrics as metrics_server
from headrace.runtime.lifecycle import FatalError, Lifecycle
from headrace.runtime.nats.bus import Bus, BusError, Message
from headrace.runtime.nats.jetstream import JetStream
from headrace.scaler.leader_lock import LeaderLock
from headrace.scaler.metrics import ScalerMetrics
from headrace.scaler.options import ScalerOptions
from headrace.scaler.reconciler import Reconciler
from headrace.scaler.workers import Workers
from headrace.slurm.client import Slurm

LEASE_SECONDS: Final = 2.0
"""How often a scaler that stands by tries to take over."""

LEAST_SECONDS: Final = 0.3
"""Between two rounds, however many requests come to models that sleep."""

SETTLE_SECONDS: Final = 3.0
"""After the bus has come (back) it takes so long until every worker has been heard."""

JITTER: Final = 0.2
"""Rounds are spread by this share of the interval, so that many scalers do not ask together."""


class Scaler:
    """One scaler process."""

    def __init__(self, options: ScalerOptions, slurm: Slurm, life: Lifecycle) -> None:
        self._options = options
        self._life = life
        self._log = life.log.bind(cluster=options.cluster)
        scaler = names.new_process_id()
        self._bus = Bus(self._log, name=f"scaler-{scaler}", inbox=subjects.scaler_inbox(scaler))
        self._workers = Workers(options.cluster)
        self._registry = CollectorRegistry()
        self._rounds = Reconciler(
            options,
            slurm,
            JetStream(self._bus, subjects.DOMAIN),
            self._workers,
            log=self._log,
            metrics=ScalerMetrics(self._registry, options.cluster),
        )
        self._wake = asyncio.Event()
        self._connected_at = 0.0
        self._lease = LeaderLock(Path(options.state) / "lease")

    async def run(self) -> int:
        """Serve until asked to stop. Jobs go on without a scaler."""
        _make(Path(self._options.state))
        stopping = asyncio.create_task(self._life.stopping.wait())
        if not await self._take_lease(stopping):
            return 0
        # From here on: of two scalers on one machine, the one that stands by has nothing to show.
        metrics_server.serve(self._registry, self._options.metrics_port)
        connecting = asyncio.create_task(self._connect())
        await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            return 0
        await connecting
        self._life.ready()
        while not self._life.stopping.is_set():
            await self._round()
            await self._pause(stopping)
        self._rounds.keep_learned()
        self._lease.give_up()
        await self._bus.close()
        return 0

    async def _take_lease(self, stopping: "asyncio.Task[bool]") -> bool:
        who = f"{socket.gethostname()} {os.getpid()}"
        told = False
        while not self._lease.take(who):
            if not told:
                self._log.info("standing_by", reason=f"the lease is held by {self._lease.holder()}")
                told = True
            await asyncio.wait([stopping], timeout=LEASE_SECONDS)
            if stopping.done():
                return False
        self._log.info("lease_taken")
        return True

    async def _connect(self) -> None:
        await self._bus.connect(self._options.bus)
        self._on_connect()
        self._bus.on_reconnect(self._on_connect)
        await self._bus.subscribe(subjects.STATES, self._on_state)
        await self._bus.subscribe(subjects.DEMANDS, self._on_demand)
        await self._bus.subscribe(subjects.PLANS, self._on_plan)

    async def _round(self) -> None:
        heard = self._bus.connected and time.time() - self._connected_at > SETTLE_SECONDS
        since = self._connected_at if heard else None
        for plan in await self._rounds.run(listening_since=since):
            try:
                await self._bus.publish(
                    subjects.plan(Slug(plan.cluster), Slug(plan.model)), codec.encode(plan)
                )
            except BusError:
                break  # the next round tells again

    async def _pause(self, stopping: "asyncio.Task[bool]") -> None:
        interval = self._options.interval_seconds
        spread = interval * JITTER * random.uniform(-1, 1)  # noqa: S311 - only spreads load
        woken = asyncio.create_task(self._wake.wait())
        await asyncio.wait([stopping], timeout=LEAST_SECONDS)
        rest = max(interval + spread - LEAST_SECONDS, 0.0)
        await asyncio.wait([stopping, woken], timeout=rest, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()
        self._wake.clear()

    def _on_connect(self) -> None:
        self._connected_at = time.time()

    def _on_state(self, message: Message) -> None:
        try:
            state = codec.decode_state(message.data)
        except HeadraceError:
            return
        self._workers.hear(state, time.time())

    def _on_demand(self, message: Message) -> None:
        try:
            model = subjects.demand_model(message.subject)
        except ValueError:
            return
        keeper = self._rounds.keepers.get(model)
        if keeper is None:
            return
        if message.data:
            keeper.turned_away_at = time.time()
        self._wake.set()

    def _on_plan(self, message: Message) -> None:
        try:
            plan = codec.decode_plan(message.data)
        except HeadraceError:
            return
        # As the edge does: what is in the message must not say more than the subject permits.
        if message.subject == subjects.plan(Slug(plan.cluster), Slug(plan.model)):
            self._rounds.neighbours.hear(plan, time.time())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise FatalError(f"{folder}: cannot be made: {error.strerror}") from error
