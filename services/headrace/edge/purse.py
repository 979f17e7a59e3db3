"""What requests for external models may cost: reserved in the store before they begin, and settled.

Money is asked for in the store each time, however many processes there are, and without the store
nothing is spent. A request to a provider takes seconds; the transaction takes a millisecond.
"""

import asyncio
import time
from typing import Final

from headrace.edge import ratelimit
from headrace.edge.counters import name_of
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.spending import Spending
from headrace.edge.storethread import StoreThread
from headrace.gateway import purse, tally, windows
from headrace.gateway.database import Database, StoreError
from headrace.gateway.quotas import Quota
from headrace.gateway.tally import Name
from headrace.protocol.errors import Code, HeadraceError
from headrace.runtime.external import money
from headrace.runtime.logging import Logger

RETRY_SECONDS: Final = 1.0


class Purse:
    """Reserves and settles."""

    def __init__(self, database: Database, *, metrics: EdgeMetrics, log: Logger) -> None:
        self._store = StoreThread(database, "purse")
        self._metrics = metrics
        self._log = log
        self._back: dict[Name, tuple[float, int]] = {}
        self._told = asyncio.Event()

    async def reserve(self, spending: Spending) -> None:
        """Reserve for one attempt. Raises ``insufficient_quota``, ``service_unavailable``."""
        now = time.time()
        budgets: dict[Name, tuple[float, int]] = {}
        by_name: dict[Name, Quota] = {}
        for quota in spending.quotas:
            name = name_of(quota, now)
            budgets[name] = windows.end(quota.window, now), quota.value
            by_name[name] = quota
        try:
            got = await self._store.write(lambda at: purse.reserve(at, budgets, spending.each))
        except StoreError:
            self._metrics.tally_failures.inc()
            raise HeadraceError(
                Code.UNAVAILABLE, "The budget of this model cannot be looked at right now.",
                retry_after=10,
            ) from None  # fmt: skip
        if got.short:
            worst = max(got.short, key=lambda name: budgets[name][0])
            raise self._refusal(spending, by_name[worst], got.values[worst], now)
        ends = {name: end for name, (end, _) in budgets.items()}
        spending.held.append(ends)
        if spending.settled:  # the request ended meanwhile, and was not sent again
            self._give_back(ends, spending.each)

    def settle(self, spending: Spending, cost: int) -> int:
        """Give back what is reserved beyond `cost`; what was spent in all, in millionths.

        The reservations of lost attempts stay: nobody has said that the provider did nothing.
        """
        model = str(spending.file.queue)
        spending.settled = True
        if cost > spending.each:
            self._metrics.overspent.inc(cost - spending.each)
            self._log.warning("overspent", model=model, count=cost, limit=spending.each)
        self._give_back(spending.held[-1], spending.each - cost)
        spent = cost + spending.each * (len(spending.held) - 1)
        self._metrics.spent.labels(model).inc(spent / money.MICRO)
        return spent

    async def run(self) -> None:
        """Tell the store what is settled, for ever."""
        while True:
            await self._told.wait()
            if not await self._tell():
                await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Tell what is left."""
        await self._tell()
        self._store.close()

    def _give_back(self, ends: dict[Name, float], amount: int) -> None:
        for name, end in ends.items():
            _, before = self._back.get(name, (end, 0))
            self._back[name] = end, before - amount
        self._told.set()

    async def _tell(self) -> bool:
        """Where the store can't be told, what was reserved stays spent."""
        self._told.clear()
        back, self._back = self._back, {}
        amounts = {name: each for name, each in back.items() if each[1]}
        if not amounts:
            return True
        try:
            await self._store.write(lambda at: tally.add_all(at, amounts))
        except StoreError:
            self._metrics.tally_failures.inc()
            for name, (end, amount) in amounts.items():
                _, since = self._back.get(name, (end, 0))
                self._back[name] = end, since + amount
            self._told.set()
            return False
        return True

    def _refusal(self, spending: Spending, quota: Quota, spent: int, now: float) -> HeadraceError:
        wait = windows.end(quota.window, now) - now
        currency = spending.file.price.currency
        error = HeadraceError(
            Code.INSUFFICIENT_QUOTA,
            f"This request could cost up to {money.shown(spending.each, currency)}, and of the "
            f"budget of {money.shown(quota.value, currency)} per {quota.window} there are "
            f"{money.shown(max(0, quota.value - spent), currency)} left. It begins anew in "
            f"{ratelimit.span(wait)}.",
            retryable=False,
            retry_after=max(1, int(wait)),
        )
        self._metrics.budget_refused.labels(str(spending.file.queue)).inc()
        return error
