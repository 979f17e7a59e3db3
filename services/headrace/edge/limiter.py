"""Limits: each request is let in or refused, and counted. With Valkey, by one script there."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from headrace.edge import ratelimit
from headrace.edge.counters import Counters, Standing
from headrace.gateway.quotas import Counted, Quota


class Ticket(msgspec.Struct):
    """What a request that was let in counts against, until `Limiter.leave`."""

    counted: Counted = Counted()
    standings: Sequence[Standing] = ()
    """Of all that counts, as it was before the request."""
    shared: str = ""
    """The id under which it is counted elsewhere, if it is."""
    queued: bool = True
    left: bool = False


class Shared(Protocol):
    """Counters that all edge processes have in common, outside of them."""

    async def enter(self, id: str, quotas: Sequence[Quota], now: float) -> list[int] | None:
        """What each quota has used, and count one more; if one is used up, count nothing.

        None where it cannot be asked: then each process counts for itself.
        """

    async def charge(self, quotas: Sequence[Quota], tokens: int, now: float) -> None:
        """Count tokens."""

    async def leave(self, id: str, quotas: Sequence[Quota]) -> None:
        """A request is not there any more."""


class Exact(Protocol):
    """Asks the store for leases, where a process cannot count alone."""

    async def claim(self, quotas: Sequence[Quota], now: float) -> bool:
        """Get a lease of each, and bring the counters up to date; False where one is used up."""


TRIES: Final = 5
"""What was leased for one request may be used by another one that came just then."""


class Limiter:
    """Lets requests in."""

    def __init__(
        self, counters: Counters, *, shared: Shared | None = None, exact: Exact | None = None
    ) -> None:
        self.counters = counters
        self._shared = shared
        self._exact = exact
        self._later: set[asyncio.Task[None]] = set()

    async def enter(self, id: str, counted: Counted) -> Ticket:
        """Let a request in. Raises ``rate_limit_exceeded`` or ``insufficient_quota``."""
        quotas = counted.quotas
        if not quotas:
            return Ticket()
        now = time.time()
        if self._shared is not None:
            used = await self._shared.enter(id, quotas, now)
            if used is not None:
                standings = ratelimit.standings(quotas, used, now)
                ratelimit.check(standings, now)
                return Ticket(counted, standings, id)
        standings = self.counters.standings(quotas, now)
        ratelimit.check(standings, now)
        if self._exact is not None:
            for _ in range(TRIES):
                short = self.counters.short(standings)
                if not short:
                    break
                await self._exact.claim(short, now)
                # Others may have come meanwhile.
                standings = self.counters.standings(quotas, now)
                ratelimit.check(standings, now)
        self.counters.enter(standings)
        return Ticket(counted, standings)

    def dequeue(self, ticket: Ticket) -> None:
        """A worker has taken the request: it waits no more."""
        if ticket.queued:
            ticket.queued = False
            self._release(ticket, ticket.counted.queued)

    def leave(self, ticket: Ticket, tokens: int) -> None:
        """The request is over, and took so many tokens."""
        if ticket.left:
            return
        ticket.left = True
        self.dequeue(ticket)
        self._release(ticket, ticket.counted.concurrency)
        self.charge(ticket, tokens)

    def charge(self, ticket: Ticket, tokens: int) -> None:
        """Count tokens of a request that is over."""
        charged = ticket.counted.tokens
        if not charged or not tokens:
            return
        now = time.time()
        for quota in charged:
            self.counters.add(quota, tokens, now)
        if self._shared is not None and ticket.shared:
            self._spawn(self._shared.charge(charged, tokens, now))

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
        now = time.time()
        for quota in quotas:
            self.counters.add(quota, -1, now)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._later.add(task)
        task.add_done_callback(self._later.discard)
