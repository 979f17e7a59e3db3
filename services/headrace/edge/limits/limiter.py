"""Limits: each request is let in or refused, and counted. With Valkey, by one script there."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from headrace.edge.limits import headers
from headrace.edge.limits.counters import Counters, LimitSet, QuotaStatus, least
from headrace.gateway.policy.quotas import Quota


class Ticket(msgspec.Struct):
    """What a request that was let in counts against, until `Limiter.leave`."""

    tab: LimitSet | None = None
    requests: QuotaStatus | None = None
    """Of requests, and of tokens, the quota of which the least is left; as it was before it."""
    tokens: QuotaStatus | None = None
    shared: str = ""
    """The id under which it is counted elsewhere, if it is."""
    queued: bool = True
    left: bool = False


class StoreLimiter(Protocol):
    """Counters that all edge processes have in common, outside of them."""

    async def enter(self, id: str, quotas: Sequence[Quota], now: float) -> list[int] | None:
        """What each quota has used, and count one more; if one is used up, count nothing.

        None where it cannot be asked: then each process counts for itself.
        """

    async def charge(self, quotas: Sequence[Quota], tokens: int, now: float) -> None:
        """Count tokens."""

    async def leave(self, id: str, quotas: Sequence[Quota]) -> None:
        """A request is not there any more."""


class LeaseSource(Protocol):
    """Asks the store for leases, where a process cannot count alone."""

    async def claim(self, quotas: Sequence[Quota], now: float) -> bool:
        """Get a lease of each, and bring the counters up to date; False where one is used up."""


TRIES: Final = 5
"""What was leased for one request may be used by another one that came just then."""


class Limiter:
    """Lets requests in."""

    def __init__(
        self,
        counters: Counters,
        *,
        shared: StoreLimiter | None = None,
        exact: LeaseSource | None = None,
    ) -> None:
        self.counters = counters
        self._shared = shared
        self._exact = exact
        self._later: set[asyncio.Task[None]] = set()

    async def enter(self, id: str, tab: LimitSet) -> Ticket:
        """Let a request in. Raises ``rate_limit_exceeded`` or ``insufficient_quota``."""
        quotas = tab.counted.quotas
        if not quotas:
            return Ticket()
        now = time.time()
        if self._shared is not None:
            used = await self._shared.enter(id, quotas, now)
            if used is not None:
                standings = headers.standings(quotas, used, now)
                headers.check(standings, now)
                return Ticket(tab, *headers.told(standings), id)
        requests, tokens = self._look(tab, now)
        if self._exact is not None:
            for _ in range(TRIES):
                short = self.counters.short(tab)
                if not short:
                    break
                await self._exact.claim(short, now)
                requests, tokens = self._look(tab, now)  # others may have come meanwhile
        self.counters.enter(tab)
        return Ticket(tab, requests, tokens)

    def _look(self, tab: LimitSet, now: float) -> tuple[QuotaStatus | None, QuotaStatus | None]:
        """What is told of requests and of tokens. Raises HeadraceError where a quota is used up."""
        counters, counted = self.counters, tab.counted
        counters.turn(tab, now)
        requests, tokens = least(tab.requests), least(tab.tokens)
        if (
            (requests is not None and requests.left <= 0)
            or (tokens is not None and tokens.left <= 0)
            or counters.full(counted.concurrency)
            or counters.full(counted.queued)
        ):
            headers.check(counters.standings(counted.quotas, now), now)
        return requests, tokens

    def dequeue(self, ticket: Ticket) -> None:
        """A worker has taken the request: it waits no more."""
        if ticket.queued:
            ticket.queued = False
            if ticket.tab is not None:
                self._release(ticket, ticket.tab.counted.queued)

    def leave(self, ticket: Ticket, tokens: int) -> None:
        """The request is over, and took so many tokens."""
        if ticket.left or ticket.tab is None:
            return
        ticket.left = True
        self.dequeue(ticket)
        self._release(ticket, ticket.tab.counted.concurrency)
        self.charge(ticket, tokens)

    def charge(self, ticket: Ticket, tokens: int) -> None:
        """Count tokens of a request that is over."""
        tab = ticket.tab
        if tab is None or not tokens or not tab.counted.tokens:
            return
        now = time.time()
        self.counters.charge(tab, tokens, now)
        if self._shared is not None and ticket.shared:
            self._spawn(self._shared.charge(tab.counted.tokens, tokens, now))

    async def settle(self) -> None:
        """Wait until all that was begun in the background is done."""
        while self._later:
            await asyncio.wait(self._later)

    def _release(self, ticket: Ticket, quotas: Sequence[Quota]) -> None:
        if not quotas:
            return
        if ticket.shared and self._shared is not None:
            self._spawn(self._shared.leave(ticket.shared, quotas))
            return
        self.counters.leave(quotas)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._later.add(task)
        task.add_done_callback(self._later.discard)
