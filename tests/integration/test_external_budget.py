"""A budget stops hard: whatever many clients ask of two edges at once, no more is spent."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from headrace.gateway.policy.records import Limit, LimitWindow, Metric, SubjectKind
from headrace.gateway.store import queries, schema, usage
from headrace.protocol.errors import Code
from headrace.protocol.frames import End, Fail, Timings, Usage
from headrace.protocol.names import Slug
from tests.support.edge_kit import MODEL, Edge, Job, ScriptedWorker, eventually, whole
from tests.support.gateway_edges import ADA, EXTERNAL, SOLD, Answered, Site, StartGate, ask

pytestmark = pytest.mark.anyio

SLUG = Slug("sold-model")
BUDGET = 100_000  # millionths: a tenth of a unit
COST = 10_050
TEXT = SOLD.replace(
    "per_day = 100.0",
    "per_day = 0.1\nuser_per_day = 0.1\n[limits]\nuser_requests_per_minute = 9999\n"
    "user_concurrency = 999",
)
LENGTH = {"model": EXTERNAL, "max_tokens": 1000}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def paid(job: Job) -> None:
    """An answer of 20 tokens to and 1000 from: 20 * 2.5 + 1000 * 10 millionths."""
    await job.send(
        job.accepted(), job.head(), *job.chunks(whole("x")),
        End(job.attempt, 3, Usage(20, 1000), Timings()),
    )  # fmt: skip
    await job.ack()


@contextlib.asynccontextmanager
async def serving(
    worker: ScriptedWorker, serve: Callable[[Job], Any] = paid
) -> AsyncIterator[None]:
    async def forever() -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(serve(await worker.take(seconds=60, model=SLUG)))

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def spent(site: Site) -> int:
    """What the store has counted against the budget."""
    name = f"all:model:{SLUG}:cost:day"
    with site.database.read() as connection:
        rows = connection.execute(
            select(schema.counters.c.value).where(schema.counters.c.name == name)
        )
        return sum(int(value) for (value,) in rows)


async def settled(site: Site, amount: int, seconds: float = 20.0) -> None:
    async def is_so() -> bool:
        return spent(site) == amount

    await eventually(is_so, seconds)


def opened(site: Site, text: str = TEXT) -> str:
    """A key of somebody who may use it."""
    site.sell(text)
    site.office.groups.put("payers", models=[EXTERNAL])
    site.office.people.put(ADA, join=["payers"])
    return site.key()


async def begun(
    worker: ScriptedWorker, http: aiohttp.ClientSession, edge: Edge, key: str
) -> tuple[asyncio.Task[Answered], Job]:
    """A request, and its job, which a worker has taken."""
    asked = asyncio.create_task(ask(http, edge, key, **LENGTH))
    return asked, await worker.take(model=SLUG)


async def test_two_edges_and_many_clients_never_spend_more_than_the_budget(
    site: Site,
    start_gate: StartGate,
    worker: ScriptedWorker,
    http: aiohttp.ClientSession,
    record_property: Callable[[str, object], None],
) -> None:
    key = opened(site)
    edges = [start_gate(site), start_gate(site)]
    turns = asyncio.Semaphore(24)
    highest = 0

    async def one(number: int) -> tuple[int, str]:
        async with turns:
            code, body, _ = await ask(http, edges[number % 2], key, **LENGTH)
            return code, body.get("error", {}).get("code", "")

    async def look() -> None:
        nonlocal highest
        while True:
            highest = max(highest, await asyncio.to_thread(spent, site))
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    async with serving(worker):
        # At once, with the edges just started: neither knows of the other yet.
        found = await asyncio.gather(*(one(number) for number in range(60)))
        for number in range(60, 80):  # and then what is left, one by one
            found.append(await one(number))
            await asyncio.sleep(0.05)
    looking.cancel()
    admitted = sum(code == 200 for code, _ in found)
    assert {code for _, code in found} == {"", "insufficient_quota"}
    assert admitted * COST <= BUDGET
    assert highest <= BUDGET
    await settled(site, admitted * COST)
    assert admitted >= 7
    record_property(
        "told", f"a budget for 9 requests, 80 at 2 edges: {admitted} let in, "
        f"at most {highest} of {BUDGET} reserved",
    )  # fmt: skip

    async def is_accounted() -> bool:
        with site.database.read() as connection:
            rows = usage.report(connection, ["model"])
        return [row.cost for row in rows] == [admitted * COST / 1e6]

    await eventually(is_accounted)


async def test_what_is_broken_off_has_cost_all_and_what_was_not_begun_nothing(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = opened(file_site)
    edge = start_gate(file_site)

    async def failing(code: Code, tokens: int) -> None:
        asked, job = await begun(worker, http, edge, key)
        await job.send(
            job.accepted(),
            Fail(job.attempt, 1, code, "No.", False, Usage(0, tokens), retry_after=7),
        )
        await job.ack()
        status, body, headers = await asked
        assert body["error"]["code"] == code
        if code is Code.PROVIDER_UNAVAILABLE:
            assert (status, headers["retry-after"]) == (503, "7")

    await failing(Code.PROVIDER_UNAVAILABLE, 0)
    await failing(Code.PROVIDER_REFUSED, 0)
    await settled(file_site, 0)
    await failing(Code.ENGINE_FAILED, 3)
    await asyncio.sleep(0.5)  # time enough to give back what must stay
    reserved = spent(file_site)
    assert reserved > COST


async def test_a_client_that_leaves_has_cost_all_once_begun_and_nothing_while_it_waited(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = opened(file_site)
    edge = start_gate(file_site)
    asked, job = await begun(worker, http, edge, key)
    await job.send(job.accepted())
    reserved = spent(file_site)
    assert reserved > COST
    asked.cancel()
    await asyncio.wait_for(worker.controls.get(), 20)
    await job.send(Fail(job.attempt, 1, Code.CANCELLED, "", retryable=False))
    await job.ack()
    await asyncio.sleep(1)  # time enough to give back what must stay
    assert spent(file_site) == reserved

    waiting = asyncio.create_task(ask(http, edge, key, **LENGTH))

    async def is_reserved() -> bool:
        return spent(file_site) == 2 * reserved

    await eventually(is_reserved)
    waiting.cancel()
    # Only when its worker could have said a word is it certain that there was none.
    await settled(file_site, reserved, 40)


async def test_what_is_sent_again_is_reserved_again(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = opened(file_site)
    edge = start_gate(file_site)
    asked, job = await begun(worker, http, edge, key)
    reserved = spent(file_site)
    await job.send(job.accepted(), Fail(job.attempt, 1, Code.WORKER_LOST, "", retryable=True))
    await job.ack()
    again = await worker.take(model=SLUG)
    assert spent(file_site) == 2 * reserved
    await paid(again)
    assert (await asked)[0] == 200
    await settled(file_site, reserved + COST)


async def test_an_edge_that_dies_has_spent_what_it_had_reserved(
    site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = opened(site)
    edges: list[Edge] = [start_gate(site), start_gate(site)]
    asked = [asyncio.create_task(ask(http, edges[0], key, **LENGTH)) for _ in range(7)]
    for _ in asked:
        await worker.take(model=SLUG)
    assert (await ask(http, edges[1], key, **LENGTH))[1]["error"]["code"] == "insufficient_quota"
    edges[0].process.send_signal(signal.SIGKILL)
    await asyncio.gather(*asked, return_exceptions=True)
    edges[0].process.wait(10)
    await asyncio.sleep(1)  # time enough to give back what must stay
    assert (await ask(http, edges[1], key, **LENGTH))[1]["error"]["code"] == "insufficient_quota"


async def test_without_the_store_nothing_is_spent(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = opened(file_site)
    edge = start_gate(file_site)
    held = file_site.database.engine.connect()
    held.exec_driver_sql("DROP TABLE counters")
    held.commit()
    held.close()
    code, body, headers = await ask(http, edge, key, **LENGTH)
    assert (code, body["error"]["code"]) == (503, "service_unavailable")
    assert headers["retry-after"]


async def test_a_groups_budget_and_a_users_stop_as_hard(
    site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = opened(site, TEXT.replace("user_per_day = 0.1", "user_per_day = 0.03"))
    site.office.limits.set(
        [Limit(kind=SubjectKind.GROUP, name="payers", metric=Metric.COST, window=LimitWindow.MONTH,
               value=15_000, model=EXTERNAL, each=False)]
    )  # fmt: skip
    edges = [start_gate(site), start_gate(site)]
    async with serving(worker):
        codes = [(await ask(http, edges[n % 2], key, **LENGTH))[0] for n in range(4)]
        assert codes == [200, 429, 429, 429]
        site.office.limits.clear(_all(site))

        async def is_let_in() -> bool:
            return (await ask(http, edges[0], key, **LENGTH))[0] == 200

        await eventually(is_let_in)
        codes = [(await ask(http, edges[n % 2], key, **LENGTH))[0] for n in range(1, 4)]
        # 0.03 less 0.02 that are spent, and a request may cost 0.013.
        assert codes == [429, 429, 429]


def _all(site: Site) -> list[Limit]:
    with site.database.read() as connection:
        return queries.limits(connection)


async def test_models_tell_that_they_leave_the_site(
    file_site: Site, start_gate: StartGate, http: aiohttp.ClientSession
) -> None:
    key = opened(file_site)
    edge = start_gate(file_site)
    headers = {"authorization": f"Bearer {key}"}
    async with http.get(f"{edge.url}/v1/models", headers=headers) as answer:
        facts = {each["id"]: each["headrace"]["external"] for each in (await answer.json())["data"]}
    assert facts[EXTERNAL] is True
    assert not any(external for name, external in facts.items() if name != EXTERNAL)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[budget]\nper_day = 100.0\n", "missing required field `budget`"),
        ("per_day = 100.0\n", "needs a bound"),
    ],
)
def test_an_edge_does_not_start_with_a_model_that_nothing_bounds(
    file_site: Site, start_gate: StartGate, line: str, reason: str
) -> None:
    file_site.sell(SOLD.replace(line, ""))
    edge = start_gate(file_site, ready=False)
    assert edge.process.wait(20) == 78
    assert reason in edge.log()
    assert "sold.toml" in edge.log()


def test_a_model_is_not_both_external_and_the_sites_own(
    file_site: Site, start_gate: StartGate
) -> None:
    file_site.sell(SOLD.replace(EXTERNAL, MODEL))
    edge = start_gate(file_site, ready=False)
    assert edge.process.wait(20) == 78
    assert "is an external model too" in edge.log()
