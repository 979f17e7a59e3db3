"""Keeps a process's counters and the store's together: once a second, and when one asks at once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection

from headrace.edge.limits.counters import Counters, Value, name_of
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.store_thread import StoreThread
from headrace.gateway.policy.quotas import Quota
from headrace.gateway.store import counters as tally
from headrace.gateway.store.counters import Claim, Granted
from headrace.gateway.store.database import Database, StoreError

SYNC_SECONDS: Final = 1.0
PRUNE_SECONDS: Final = 600.0
MAX_TOGETHER: Final = 64
"""Claims that go into one transaction."""


class _LeaseRequest(NamedTuple):
    quotas: Sequence[Quota]
    now: float
    answer: "asyncio.Future[bool]"


class LeaseSync:
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
        self._counters = counters
        self._others = others
        self._metrics = metrics
        self._store = StoreThread(database, "tally")
        self._turn = asyncio.Lock()
        self._asked: list[_LeaseRequest] = []
        self._heard = False
        self._spoken = False
        self._whole = False
        self._pruned = 0.0

    async def run(self) -> None:
        """Sync, for ever."""
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            await self.sync()

    async def sync(self, *, last: bool = False) -> bool:
        """Tell the store what was counted here, and hear what was elsewhere."""
        counters, now = self._counters, time.time()
        others = self._others()
        if others:
            counters.others, self._whole = others, False
        async with self._turn:
            touched, here = counters.touched(), counters.here
            news = counters.news(last=last)
            alone = not others and self._whole
            if alone and not news:
                counters.forget(now)
                return True  # there is nobody to tell, or to hear
            prune = now - self._pruned > PRUNE_SECONDS

            def work(connection: Connection) -> tuple[list[Value], dict[str, int]]:
                tally.add_all(connection, news)
                if here or self._spoken:
                    tally.tell(connection, self._edge, {} if last else here, now)
                if prune:
                    tally.prune(connection, now)
                # Beside others one asks for what one needs. Who begins, or is left alone, has to
                # know all: from then on a counter that is not known here is at nothing.
                names = touched if self._heard and (others or self._whole) else None
                values = tally.values(connection, now, names)
                return values, tally.elsewhere(connection, self._edge, now)

            try:
                values, elsewhere = await self._store.write(work)
            except StoreError:
                self._metrics.tally_failures.inc()
                return False
            counters.said(news, values)
            counters.hear(elsewhere)
            counters.forget(now)
            self._heard, self._spoken = True, bool(here)
            if not others:
                counters.others, self._whole = 0, True
            self._pruned = now if prune else self._pruned
            return True

    async def claim(self, quotas: Sequence[Quota], now: float) -> bool:
        """As `Exact` says. Claims that come at once go into one transaction.

        Where the store cannot be asked a process counts for itself.
        """
        asked = _LeaseRequest(quotas, now, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        while not asked.answer.done():  # there may be too many before it
            async with self._turn:
                if not asked.answer.done():
                    batch, self._asked = self._asked[:MAX_TOGETHER], self._asked[MAX_TOGETHER:]
                    try:
                        await self._claim(batch)
                    finally:
                        # Where this one is cut off, the others must not wait for ever.
                        self._asked[:0] = [
                            each for each in batch if each is not asked and not each.answer.done()
                        ]
        return asked.answer.result()

    async def close(self) -> None:
        """Say what is left to say, and give all leases back."""
        await self.sync(last=True)
        self._store.close()

    async def _claim(self, batch: Sequence[_LeaseRequest]) -> None:
        counters = self._counters
        claims = []
        said: set[tuple[str, int]] = set()
        for asked in batch:
            names = {name_of(quota, asked.now): quota for quota in asked.quotas}
            ends = [each.ends for each in counters.standings(names.values(), asked.now)]
            limits = {
                name: (end, quota.value)
                for (name, quota), end in zip(names.items(), ends, strict=True)
            }
            claims.append(Claim(counters.unsaid(set(names) - said), limits, counters.others + 1))
            said |= set(names)
        try:
            granted = await self._store.write(lambda at: tally.claim_all(at, claims))
        except StoreError:
            self._metrics.tally_failures.inc()
            granted = [Granted(dict.fromkeys(claim.limits, 1), {}) for claim in claims]
            for claim in claims:
                # To be told when the store is back: it has not counted these.
                for asked_name in claim.limits:
                    counters.owe(asked_name, 1)
            claims = [Claim({}, claim.limits, 1) for claim in claims]
        for asked, claim, got in zip(batch, claims, granted, strict=True):
            values = [(*name, claim.limits[name][0], value) for name, value in got.values.items()]
            counters.said(claim.unsaid, values)
            counters.lease(got.leases)
            if not asked.answer.done():
                asked.answer.set_result(bool(got.leases))
