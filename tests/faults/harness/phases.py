"""Brings requests into a phase of their life, and tells when they are there."""

import asyncio
import itertools
from enum import StrEnum
from typing import Final

import aiohttp

from tests.faults.harness.clients import Client
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.site import MODEL, Site, until
from tests.faults.harness.verdict import Asked

FEW: Final = 6
TOKENS: Final = 60
LAST_TOKENS: Final = 12
BEGUN_TOKENS: Final = 5
REACH_SECONDS: Final = 15.0
PULL_SECONDS: Final = 1.0
"""A pull that waits at the hub is taken by then, or has run out."""
QUEUE_SECONDS: Final = 5.0
"""Slots are taken by then, and what is over waits; later it has been served."""
TRIES: Final = 10

_numbers: Final = itertools.count()


class Phase(StrEnum):
    """Where a request is when the fault comes."""

    ACCEPTED = "accepted"
    """The edge has it, and has not got it into the queue."""
    QUEUED = "queued"
    DELIVERED = "delivered"
    """A worker has it, and nobody has heard so."""
    BEFORE_FIRST = "before the first token"
    MID_STREAM = "mid-stream"
    LAST = "last frame unacknowledged"
    """The worker has written its last frame, and neither that nor its acknowledgement came on."""


class Moment:
    """Requests in a phase; `release` what keeps them there when the fault has begun."""

    def __init__(self, clients: list[Client], held: list[Proxy]) -> None:
        self.clients = clients
        self._held = held

    def release(self) -> None:
        """Let everything go on, as far as it still can."""
        for way in self._held:
            way.release()


async def reach(
    site: Site, http: aiohttp.ClientSession, phase: Phase, tokens: int = TOKENS
) -> Moment:
    """Ask for answers of so many tokens (the last frame needs few), and return when the phase is
    reached. Raises AssertionError where it is not."""
    match phase:
        case Phase.ACCEPTED:
            return await _accepted(site, http, tokens)
        case Phase.QUEUED:
            return await _queued(site, http, tokens)
        case Phase.DELIVERED:
            return await _delivered(site, http, tokens)
        case Phase.BEFORE_FIRST:
            return await _before_first(site, http, tokens)
        case Phase.MID_STREAM:
            return await _mid_stream(site, http, tokens)
        case Phase.LAST:
            return await _last(site, http)


async def _accepted(site: Site, http: aiohttp.ClientSession, tokens: int) -> Moment:
    way = site.way("edge")
    way.hold()
    clients = ask(site, http, FEW, tokens)
    await until(lambda: _live(site, FEW), REACH_SECONDS, "the edge has all requests")
    return Moment(clients, [way])


async def _queued(site: Site, http: aiohttp.ClientSession, tokens: int) -> Moment:
    clients: list[Client] = []

    async def waiting() -> bool:
        found = await site.queue()
        return found is not None and found.pending >= FEW / 2

    for _ in range(TRIES):
        clients += ask(site, http, _all_slots(site) + FEW, tokens)
        try:
            await until(waiting, QUEUE_SECONDS, "requests wait in the queue")
        except AssertionError:  # pulls of a fault before this one, whose worker is gone, took them
            await asyncio.gather(*(client.end() for client in clients))
        else:
            return Moment(clients, [])
    raise AssertionError(f"nothing waited in the queue in {TRIES} tries")


async def _delivered(site: Site, http: aiohttp.ClientSession, tokens: int) -> Moment:
    """One request for each worker, taken by the pulls that wait at the hub."""
    clients: list[Client] = []
    ways = [site.way(worker) for worker in site.workers]
    for _ in range(TRIES):
        for way in ways:
            way.hold()
        clients += ask(site, http, len(ways), tokens)
        try:
            await until(lambda: _given_out(site, len(ways)), PULL_SECONDS, "delivered")
        except AssertionError:  # the pulls had run out just then
            for way in ways:
                way.release()
            await asyncio.gather(*(client.end() for client in clients))
            await until(lambda: _empty(site), REACH_SECONDS, "the queue is empty again")
        else:
            return Moment(clients, ways)
    raise AssertionError(f"not delivered in {TRIES} tries")


async def _before_first(site: Site, http: aiohttp.ClientSession, tokens: int) -> Moment:
    """A worker whose every slot is taken: who has one there and none at its engine waits."""
    clients = ask(site, http, _all_slots(site), tokens)

    async def waiting() -> bool:
        running = [await site.metric(each, "headrace_worker_running") for each in site.workers]
        return max(running) == site.plan.slots

    await until(waiting, REACH_SECONDS, "every slot of a worker is taken")
    assert any(not client.seen.tokens for client in clients)
    return Moment(clients, [])


async def _mid_stream(site: Site, http: aiohttp.ClientSession, tokens: int) -> Moment:
    clients = ask(site, http, FEW, tokens)
    await until(lambda: _begun(clients), REACH_SECONDS, "all streams have begun")
    # Nothing is acknowledged before its end: the backlog is what the queue says.
    found = await site.queue()
    running = sum(not client.ended for client in clients)
    assert found is not None
    assert found.messages >= running, f"{running} streams and {found.messages} messages"
    return Moment(clients, [])


async def _last(site: Site, http: aiohttp.ClientSession) -> Moment:
    before = await _ended(site)
    clients = ask(site, http, FEW, LAST_TOKENS)
    await until(lambda: _begun(clients), REACH_SECONDS, "all streams have begun")
    ways = [site.way(worker) for worker in site.workers]
    for way in ways:
        way.hold()

    async def ended() -> bool:
        return await _ended(site) >= before + FEW

    await until(ended, REACH_SECONDS, "the workers are done")
    return Moment(clients, ways)


def ask(site: Site, http: aiohttp.ClientSession, count: int, tokens: int) -> list[Client]:
    """So many streams, of both endpoints, some of which tell their usage."""
    clients = [
        Client(Asked(f"cell {number}", tokens, chat=number % 3 > 0, usage=number % 2 > 0))
        for number in itertools.islice(_numbers, count)
    ]
    for client in clients:
        client.start(http, site.url, MODEL)
    return clients


def _all_slots(site: Site) -> int:
    return site.plan.slots * len(site.workers)


def _begun(clients: list[Client]) -> bool:
    return all(client.seen.tokens >= BEGUN_TOKENS or client.ended for client in clients)


async def _live(site: Site, count: int) -> bool:
    return await site.metric("edge", "headrace_edge_live_requests") >= count


async def _given_out(site: Site, count: int) -> bool:
    found = await site.queue()
    return found is not None and found.given_out >= count


async def _empty(site: Site) -> bool:
    found = await site.queue()
    return found is not None and not found.messages


async def _ended(site: Site) -> float:
    return await site.workers_metric("headrace_worker_requests_total")
