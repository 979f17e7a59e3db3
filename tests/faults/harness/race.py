"""A race that chance seldom runs: a worker that was taken for lost speaks before its successor."""

from tests.faults.harness.cell import READY_SECONDS, SLACK_SECONDS
from tests.faults.harness.clients import session
from tests.faults.harness.phases import BEGUN_TOKENS, REACH_SECONDS, ask
from tests.faults.harness.site import Site, until
from tests.faults.harness.verdict import Verdict, judge

TOKENS = 300
"""It must still be writing when the other one is heard."""
LATE_SECONDS = 1.0
RUNNING = "headrace_worker_running"


async def second_thoughts(site: Site) -> Verdict:
    """One stream. Its worker falls silent until another one has taken the request over, and goes
    on before the edge has heard of that one: what that one begins is then too late."""
    await site.ready(READY_SECONDS)
    async with session(site.key, site.plan.deadline_seconds + SLACK_SECONDS) as http:
        (client,) = ask(site, http, 1, TOKENS)
        await until(lambda: client.seen.tokens >= BEGUN_TOKENS, REACH_SECONDS, "it has begun")
        busy = {each: await site.metric(each, RUNNING) for each in site.workers}
        first, second = sorted(site.workers, key=lambda each: -busy[each])[:2]
        site.way(second).slow(delay=LATE_SECONDS)
        site.way(first).freeze()

        async def taken_over() -> bool:
            return await site.metric(second, RUNNING) > 0

        await until(
            taken_over, site.plan.silence_seconds + REACH_SECONDS, "another worker has the request"
        )
        site.way(first).heal()
        await until(lambda: client.seen.tokens > 2 * BEGUN_TOKENS or client.ended, 5, "it goes on")
        seen = await client.end()
        site.way(second).heal()
    return judge(client.asked, seen)
