"""Many requests through faults that come at random: the same ones for the same seed."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable

import aiohttp
import msgspec

from tests.faults.harness import cell
from tests.faults.harness.clients import Client, any_request, session
from tests.faults.harness.faults import Blow, choices
from tests.faults.harness.site import MODEL, Site
from tests.faults.harness.verdict import Edge, Kind, Verdict, judge

AGAIN_SECONDS = 0.5
"""Who was refused comes back after so long."""
SHUT_SECONDS = 5.0
"""An edge that drains, or has no files, turns newcomers away for no longer."""
QUIET_SECONDS = 3.0
"""Between two faults, on average: sometimes none, so that one meets the other's end."""


class Storm(msgspec.Struct):
    """What to send through, and what came of it so far."""

    requests: int
    seed: int
    streams: int = 24
    tokens: int = 60
    minutes: float = 60.0
    """It ends by then, however many requests there were."""
    kinds: Counter[Kind] = msgspec.field(default_factory=Counter)
    codes: Counter[str] = msgspec.field(default_factory=Counter)
    blows: Counter[str] = msgspec.field(default_factory=Counter)
    bad: list[str] = []
    slowest: float = 0.0
    seconds: float = 0.0
    skipped: set[str] = set()
    """Faults that this machine can't make."""

    @property
    def judged(self) -> int:
        """Requests that were taken and have ended."""
        return self.kinds.total()

    def note(self, verdict: Verdict, what: str, seconds: float) -> None:
        """Count one more."""
        self.kinds[verdict.kind] += 1
        self.slowest = max(self.slowest, seconds)
        if verdict.kind is Kind.TYPED:
            self.codes[verdict.detail] += 1
        if not verdict.good:
            self.bad.append(f"{what}: {verdict.kind}: {verdict.detail}")


class Deaths:
    """When the edge went down, and how."""

    def __init__(self) -> None:
        self._times: list[tuple[float, Edge]] = []

    def note(self, edge: Edge) -> None:
        """It goes down now, unless it is `UP`."""
        if edge is not Edge.UP:
            self._times.append((time.monotonic(), edge))

    def between(self, begin: float, end: float) -> Edge:
        """The worst that happened to it. What was asked during a drain still meets its end."""
        found = {
            edge
            for at, edge in self._times
            if begin - (SHUT_SECONDS if edge is Edge.STOPPED else 0.0) <= at <= end
        }
        return next((each for each in (Edge.KILLED, Edge.STOPPED) if each in found), Edge.UP)


async def run(site: Site, storm: Storm, say: Callable[[str], None]) -> None:
    """Send all requests through. The site has its faults behind it afterwards."""
    begun = time.monotonic()
    deaths = Deaths()
    faults = asyncio.create_task(_strike(site, storm, deaths, say))
    async with session(site.key, site.plan.deadline_seconds + cell.SLACK_SECONDS) as http:
        streams = [_stream(site, storm, http, number, deaths) for number in range(storm.streams)]
        try:
            async with asyncio.timeout(storm.minutes * 60):
                await asyncio.gather(*streams)
        except TimeoutError:
            say("the time is over")
        finally:
            faults.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await faults
    storm.seconds = time.monotonic() - begun


async def _stream(
    site: Site, storm: Storm, http: aiohttp.ClientSession, number: int, deaths: Deaths
) -> None:
    """One client after the other."""
    peer = number % len(site.urls)  # 0 is the edge that may die
    chance = random.Random(f"{storm.seed} {number}")
    count = 0
    while storm.judged < storm.requests:
        count += 1
        name = f"storm {storm.seed} {number} {count}"
        client = Client(any_request(chance, name, storm.tokens))
        await client.run(http, site.urls[peer], MODEL)
        if client.seen.refused:
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        edge = Edge.UP if peer else deaths.between(client.begun, client.ended)
        verdict = judge(client.asked, client.seen, edge=edge)
        storm.note(verdict, name, client.seen.seconds)
        if verdict.kind is not Kind.UNBROKEN:
            await asyncio.sleep(AGAIN_SECONDS)


async def _strike(site: Site, storm: Storm, deaths: Deaths, say: Callable[[str], None]) -> None:
    chance = random.Random(storm.seed)
    blows = choices(storm.seed, site.workers)
    while True:
        await asyncio.sleep(chance.expovariate(1 / QUIET_SECONDS))
        blow = next(blows)
        if not blow.possible(site):
            storm.skipped.add(blow.fault.name)
            continue
        known = len(storm.bad)
        await _one(site, storm, blow, deaths)
        storm.blows[blow.fault.part] += 1
        say(f"{storm.judged} requests, {len(storm.bad)} bad; {blow.fault.name}")
        for each in storm.bad[known:]:
            say(f"BAD: {each}")


async def _one(site: Site, storm: Storm, blow: Blow, deaths: Deaths) -> None:
    deaths.note(blow.door)
    try:
        extra = await blow.strike(site)
        await asyncio.sleep(blow.fault.seconds)
    finally:
        blow.mend(site)
    for client in extra:
        await client.end()
        if not client.seen.refused:
            verdict = judge(client.asked, client.seen)
            storm.note(verdict, f"flood, {len(client.asked.content)} bytes", client.seen.seconds)
