"""What requests for external models may cost: reserved in the store before they begin, and settled.

Money is asked for in the store each time, however many processes there are, and without the store
nothing is spent. A request to a provider takes seconds; the transaction takes a millisecond.
"""

import asyncio
import time
from typing import Final, NamedTuple

import msgspec

from headrace.edge.dispatch.response_assembler import ResponseAssembler
from headrace.edge.limits import headers
from headrace.edge.limits.counters import name_of
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.store_thread import StoreThread
from headrace.external import money
from headrace.external.model import ExternalModel
from headrace.gateway.policy import windows
from headrace.gateway.policy.quotas import Quota
from headrace.gateway.store import budgets as purse
from headrace.gateway.store import counters
from headrace.gateway.store.counters import Name
from headrace.gateway.store.database import Database, StoreError
from headrace.protocol.errors import Code, HeadraceError
from headrace.runtime.logging import Logger

UNBILLED: Final = frozenset(
    (Code.PROVIDER_UNAVAILABLE, Code.PROVIDER_REFUSED, Code.UNPROCESSABLE, Code.INVALID_JSON,
     Code.INVALID_REQUEST, Code.ENDPOINT_NOT_SERVED)
)  # fmt: skip
"""What a worker says only of requests that no provider has worked on."""


class Bill(NamedTuple):
    """A request for an external model: its file, and the most that the request can cost."""

    file: ExternalModel
    most: int


class Reservation(msgspec.Struct):
    """What is reserved for one request: as much for each time that it is sent."""

    file: ExternalModel
    quotas: tuple[Quota, ...]
    each: int
    """The most that it can cost once, in millionths."""
    held: list[dict[Name, float]] = []
    """Of each reservation the budgets that it is out of, with their windows' ends."""
    settled: bool = False


def cost(answer: ResponseAssembler, spending: Reservation) -> int:
    """What an answer that is over has cost, in millionths.

    Only a provider's own count at the end is exact. What is broken off may have cost all that was
    reserved, unless it is certain that the provider did not begin.
    """
    if answer.error is not None:
        begun = answer.worker and answer.error.code not in UNBILLED
        return spending.each if begun else 0
    if answer.status >= 400:
        return 0
    usage = answer.usage
    if not usage.prompt_tokens:
        return spending.each
    return spending.file.price.cost(usage.prompt_tokens, usage.completion_tokens)


RETRY_SECONDS: Final = 1.0


class BudgetReserver:
    """Reserves and settles."""

    def __init__(self, database: Database, *, metrics: EdgeMetrics, log: Logger) -> None:
        self._store = StoreThread(database, "purse")
        self._metrics = metrics
        self._log = log
        self._back: dict[Name, tuple[float, int]] = {}
        self._told = asyncio.Event()

    async def reserve(self, spending: Reservation) -> None:
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

    def settle(self, spending: Reservation, cost: int) -> int:
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
            await self._store.write(lambda at: counters.add_all(at, amounts))
        except StoreError:
            self._metrics.tally_failures.inc()
            for name, (end, amount) in amounts.items():
                _, since = self._back.get(name, (end, 0))
                self._back[name] = end, since + amount
            self._told.set()
            return False
        return True

    def _refusal(
        self, spending: Reservation, quota: Quota, spent: int, now: float
    ) -> HeadraceError:
        wait = windows.end(quota.window, now) - now
        currency = spending.file.price.currency
        error = HeadraceError(
            Code.INSUFFICIENT_QUOTA,
            f"This request could cost up to {money.shown(spending.each, currency)}, and of the "
            f"budget of {money.shown(quota.value, currency)} per {quota.window} there are "
            f"{money.shown(max(0, quota.value - spent), currency)} left. It begins anew in "
            f"{headers.span(wait)}.",
            retryable=False,
            retry_after=max(1, int(wait)),
        )
        self._metrics.budget_refused.labels(str(spending.file.queue)).inc()
        return error
