"""Keeps a process's counters and the store's together: once a second, and when one asks at once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import Connection

from headrace.edge.counters import Counters, name_of
from headrace.edge.metrics import EdgeMetrics
from headrace.gateway import tally
from headrace.gateway.database import Database, StoreError
from headrace.gateway.quotas import Quota

T = TypeVar("T")
Value = tuple[str, int, float, int]
"""A counter's name, the beginning and the end of its window, and its value."""

SYNC_SECONDS: Final = 1.0
PRUNE_SECONDS: Final = 600.0


class Tally:
    """The store's side of the counters; the `Exact` of a `Limiter`."""

    def __init__(
        self,
        edge: str,
        database: Database,
        counters: Counters,
        others: Callable[[], int],
        *,
        metrics: EdgeMetrics,
    ) -> None:
        self._edge = edge
        self._database = database
        self._counters = counters
        self._others = others
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="tally")
        self._turn = asyncio.Lock()
        self._heard = False
        self._pruned = 0.0

    async def run(self) -> None:
        """Sync, for ever."""
        while True:
            await self.sync()
            await asyncio.sleep(SYNC_SECONDS)

    async def sync(self) -> bool:
        """Tell the store what was counted here, and hear what was elsewhere."""
        counters, now = self._counters, time.time()
        counters.others = self._others()
        async with self._turn:
            unsaid, here = counters.unsaid(), counters.here
            alone = not counters.others and self._heard
            if alone and not unsaid and not here:
                return True  # nobody has anything to say
            prune = now - self._pruned > PRUNE_SECONDS

            def work(connection: Connection) -> tuple[list[Value], dict[str, int]]:
                values = tally.add(connection, unsaid)
                if not alone:
                    tally.tell(connection, self._edge, here, now)
                if prune:
                    tally.prune(connection, now)
                if alone:
                    return [(*name, unsaid[name][0], value) for name, value in values.items()], {}
                return tally.values(connection, now), tally.elsewhere(connection, self._edge, now)

            try:
                values, elsewhere = await self._do(work)
            except StoreError:
                self._metrics.tally_failures.inc()
                return False
            counters.said(unsaid, {})
            counters.load(values)
            counters.hear(elsewhere)
            counters.known(now)
            self._heard = True
            self._pruned = now if prune else self._pruned
            return True

    async def claim(self, quotas: Sequence[Quota], now: float) -> bool:
        """As `Exact` says. Where the store cannot be asked a process counts for itself."""
        names = {name_of(quota, now): quota for quota in quotas}
        standings = {one.quota: one for one in self._counters.standings(quotas, now)}
        limits = {name: (standings[quota].ends, quota.value) for name, quota in names.items()}
        async with self._turn:
            unsaid = self._counters.unsaid(names)
            try:
                allowed, values = await self._do(
                    lambda connection: tally.claim(connection, unsaid, limits)
                )
            except StoreError:
                self._metrics.tally_failures.inc()
                for quota in quotas:
                    self._counters.add(quota, 1, now)
                return True
            self._counters.said(unsaid, values)
            return allowed

    async def close(self) -> None:
        """Say what is left to say."""
        await self.sync()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _do(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._database.write() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)
