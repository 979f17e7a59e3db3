"""One cell of the matrix: requests in a phase, a fault, and what became of each."""

import asyncio

import msgspec

from tests.faults.harness.clients import Client, session
from tests.faults.harness.faults import Blow
from tests.faults.harness.phases import TOKENS, Phase, reach
from tests.faults.harness.site import Site, until
from tests.faults.harness.verdict import Edge, Kind, Verdict, judge

READY_SECONDS = 60.0
EMPTY_SECONDS = 5.0
"""By then the requests of an edge that died have left the queue."""
LONG_TOKENS = 800
"""Far more than can be written until then."""
SLACK_SECONDS = 5.0
"""A client waits so much longer than the deadline before it calls its request lost."""


class Result(msgspec.Struct, frozen=True):
    """What came of a fault."""

    blow: Blow
    phase: Phase | None
    verdicts: tuple[Verdict, ...]
    slowest: float
    """Seconds of the request that took longest."""
    left_over: str = ""
    """What stayed in the queue of a dead edge."""

    @property
    def bad(self) -> list[Verdict]:
        """Those that may not be."""
        return [each for each in self.verdicts if not each.good]

    def count(self, kind: Kind) -> int:
        """Requests that ended so."""
        return sum(each.kind is kind for each in self.verdicts)


async def run(site: Site, blow: Blow, phase: Phase) -> Result:
    """Bring requests into `phase`, strike, and judge them all when they have ended."""
    await site.ready(READY_SECONDS)
    async with session(site.key, site.plan.deadline_seconds + SLACK_SECONDS) as http:
        tokens = TOKENS if blow.edge is Edge.UP else LONG_TOKENS
        moment = await reach(site, http, phase, tokens)
        blow.worker = await _busiest(site, blow.worker)
        deaths = site.parts[blow.part].deaths if blow.ends else 0
        try:
            extra = await blow.strike(site)
        finally:
            moment.release()
        left_over = ""
        if blow.edge is not Edge.UP:
            left_over = await _left_over(site)
        await asyncio.sleep(blow.fault.seconds)
        blow.mend(site)
        clients = [*moment.clients, *extra]
        await asyncio.gather(*(client.end() for client in clients))
        if blow.ends:  # after its drain; the next cell must not meet it
            await until(lambda: site.parts[blow.part].deaths > deaths, READY_SECONDS, "it ends")
    return Result(
        blow=blow,
        phase=phase,
        verdicts=tuple(verdicts(clients, blow.door)),
        slowest=max(client.seen.seconds for client in clients),
        left_over=left_over,
    )


async def _busiest(site: Site, chosen: str) -> str:
    """The worker that a fault hits hardest; `chosen` if none has more than another."""
    running = {each: await site.metric(each, "headrace_worker_running") for each in site.workers}
    most = max(running, key=lambda each: running[each])
    return most if running[most] > running[chosen] else chosen


def verdicts(clients: list[Client], edge: Edge) -> list[Verdict]:
    """Of all that were asked at all."""
    return [judge(each.asked, each.seen, edge=edge) for each in clients if not each.seen.refused]


async def _left_over(site: Site) -> str:
    async def empty() -> bool:
        found = await site.queue()
        return found is not None and not found.messages

    try:
        await until(empty, EMPTY_SECONDS, "the queue forgets who left with its edge")
    except AssertionError:
        return str(await site.queue())
    return ""
