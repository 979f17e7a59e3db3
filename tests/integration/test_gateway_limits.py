"""How exact limits are over several edge processes: with Valkey, with the store alone, and when
either is away. What is measured is told."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from headrace.gateway.policy.records import LimitWindow, Metric, SubjectKind
from tests.integration.test_gateway import answering, limit
from tests.support.edge_kit import Edge, ScriptedWorker, eventually, whole
from tests.support.gateway_edges import ADA, Site, StartGate, ask

pytestmark = pytest.mark.anyio

Told = Callable[[str, object], None]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def flood(
    http: aiohttp.ClientSession, edges: list[Edge], key: str, count: int, at_once: int = 16
) -> int:
    """How many of so many requests, to all edges in turns, are let in."""
    turns = asyncio.Semaphore(at_once)

    async def one(number: int) -> bool:
        async with turns:
            return (await ask(http, edges[number % len(edges)], key))[0] == 200

    return sum(await asyncio.gather(*(one(number) for number in range(count))))


@pytest.mark.redis
async def test_with_valkey_a_limit_is_exact_over_two_processes(  # noqa: PLR0917  # fixtures
    site: Site,
    start_gate: StartGate,
    worker: ScriptedWorker,
    http: aiohttp.ClientSession,
    redis_url: str,
    record_property: Told,
) -> None:
    key = site.key()
    site.office.limits.set([limit(SubjectKind.USER, ADA, 50)])
    edges = [start_gate(site, counters={"url": redis_url}) for _ in range(2)]
    async with answering(worker):
        admitted = await flood(http, edges, key, 120)
    assert admitted == 50
    record_property("told", f"limit 50, 120 requests at 2 processes, Valkey: {admitted} let in")


@pytest.mark.redis
async def test_with_valkey_what_is_at_once_is_exact_and_ends(
    file_site: Site,
    start_gate: StartGate,
    worker: ScriptedWorker,
    http: aiohttp.ClientSession,
    redis_url: str,
) -> None:
    key = file_site.key()
    file_site.office.limits.set(
        [limit(SubjectKind.USER, ADA, 3, metric=Metric.CONCURRENCY, window=LimitWindow.NOW),
         limit(SubjectKind.USER, ADA, 100, metric=Metric.TOKENS)]
    )  # fmt: skip
    edges = [start_gate(file_site, counters={"url": redis_url}) for _ in range(2)]
    asked = [asyncio.create_task(ask(http, edges[n % 2], key)) for n in range(8)]
    jobs = [await worker.take() for _ in range(3)]

    async def the_others_are_answered() -> bool:
        return sum(task.done() for task in asked) == 5

    await eventually(the_others_are_answered)
    assert [task.result()[0] for task in asked if task.done()] == [429] * 5
    for job in jobs:
        await job.send(job.accepted(), job.head(), *job.chunks(whole("x")), job.end(3, 49))
        await job.ack()
    await asyncio.gather(*asked)

    async def is_charged() -> bool:
        code, body, _ = await ask(http, edges[0], key)
        return code == 429 and body["error"]["code"] == "insufficient_quota"

    await eventually(is_charged)


@pytest.mark.redis
async def test_without_its_valkey_each_process_counts_for_itself(
    file_site: Site,
    start_gate: StartGate,
    worker: ScriptedWorker,
    http: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    key = file_site.key()
    file_site.office.limits.set([limit(SubjectKind.USER, ADA, 5)])
    edge = start_gate(file_site, counters={"url": "valkey://127.0.0.1:1"})
    async with answering(worker):
        assert await flood(http, [edge], key, 8, 1) == 5
    assert "counters_failed" in edge.log()


async def test_without_valkey_one_process_is_exact(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = file_site.key()
    file_site.office.limits.set([limit(SubjectKind.USER, ADA, 50)])
    edge = start_gate(file_site)
    async with answering(worker):
        assert await flood(http, [edge], key, 120) == 50


@pytest.mark.parametrize("value", [3, 50])
async def test_with_the_store_alone_two_processes_stay_within_the_stated_bound(  # noqa: PLR0917  # fixtures
    site: Site,
    start_gate: StartGate,
    worker: ScriptedWorker,
    http: aiohttp.ClientSession,
    record_property: Told,
    value: int,
) -> None:
    """Never more than the limit; for a second or two fewer, while another process has leases."""
    keys = {name: site.key(name) for name in (ADA, "bob@example.org")}
    site.office.limits.set([limit(SubjectKind.USER, name, value) for name in keys])
    edges = [start_gate(site), start_gate(site)]

    await asyncio.sleep(2.5)
    async with answering(worker):
        burst = await flood(http, edges, keys[ADA], 3 * value + 20)
        slow = 0
        for number in range(value + 4):
            slow += (await ask(http, edges[number % 2], keys["bob@example.org"]))[0] == 200
            await asyncio.sleep(0.1 if value < 10 else 0.05)
        await asyncio.sleep(3)
        after = await flood(http, edges, keys[ADA], 10, 1)
    assert burst <= value
    assert burst >= value - value // 4
    assert burst + after == value
    assert slow == value
    record_property(
        "told",
        f"limit {value}, 2 processes: {burst} let in at once, {after} later; {slow} slowly",
    )


async def test_edges_that_share_no_second_agree_in_the_end(
    site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = site.key()
    site.office.limits.set([limit(SubjectKind.USER, ADA, 10)])
    edges = [start_gate(site), start_gate(site)]
    await asyncio.sleep(2.5)
    async with answering(worker):
        assert await flood(http, edges[:1], key, 6, 1) == 6
        edges[0].process.send_signal(signal.SIGTERM)
        edges[0].process.wait(20)
        await asyncio.sleep(5)
        assert await flood(http, edges[1:], key, 10, 2) == 4
