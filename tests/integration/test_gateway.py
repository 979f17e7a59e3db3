"""The gateway as clients meet it: two edge processes on one store, on either database."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import openai
import pytest
from sqlalchemy import select, text

from headrace.gateway.policy.records import EVERYONE, Limit, LimitWindow, Metric, SubjectKind
from headrace.gateway.store import backup, queries, schema
from headrace.protocol.control import Cancel
from headrace.protocol.errors import Code
from headrace.protocol.frames import End, Fail, Timings, Usage
from tests.support.edge_kit import (
    DONE,
    MODEL,
    SLUG,
    Edge,
    ScriptedWorker,
    eventually,
    sse,
    until,
    whole,
)
from tests.support.gateway_edges import (
    ADA,
    BOB,
    CHAT,
    EXTERNAL,
    Answered,
    Site,
    StartGate,
    ask,
    bearer,
)

pytestmark = pytest.mark.anyio

CHANGE_SECONDS = 5.0
"""By then every edge must know of a change."""


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@contextlib.asynccontextmanager
async def answering(worker: ScriptedWorker, answer: bytes = whole("Hello.")) -> AsyncIterator[None]:
    """A worker that answers everything at once, for so long."""

    async def serve() -> None:
        while True:
            await (await worker.take(seconds=60)).answer(answer)

    task = asyncio.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def status(http: aiohttp.ClientSession, edge: Edge, key: str) -> int:
    async with http.get(f"{edge.url}/v1/models", headers=bearer(key)) as answer:
        return answer.status


async def models(http: aiohttp.ClientSession, edge: Edge, key: str) -> list[str]:
    async with http.get(f"{edge.url}/v1/models", headers=bearer(key)) as answer:
        return [model["id"] for model in (await answer.json())["data"]]


def limit(kind: SubjectKind, name: str, value: int, **fields: Any) -> Limit:
    usual = {"metric": Metric.REQUESTS, "window": LimitWindow.DAY}
    return Limit(kind=kind, name=name, value=value, **(usual | fields))


def window_begins(seconds: float) -> None:
    """Wait until the minute has at least so long to go."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left + 0.1)


async def test_a_change_holds_on_every_edge_within_five_seconds(
    site: Site,
    start_gate: StartGate,
    http: aiohttp.ClientSession,
    record_property: Callable[..., None],
) -> None:
    edges = [start_gate(site), start_gate(site)]
    key = site.key()
    taken = []
    for wanted, change in (
        (200, lambda: None),
        (401, lambda: site.office.people.put(ADA, disabled=True)),
        (200, lambda: site.office.people.put(ADA, disabled=False)),
        (401, lambda: [site.office.keys.revoke(each.id) for each in listed(site)]),
    ):
        change()
        began = time.monotonic()
        for edge in edges:

            async def is_so(edge: Edge = edge, wanted: int = wanted) -> bool:
                return await status(http, edge, key) == wanted

            await eventually(is_so, CHANGE_SECONDS)
        taken.append(time.monotonic() - began)
    assert max(taken) < CHANGE_SECONDS
    record_property("told", f"a change of keys was seen by both edges after {max(taken):.2f} s")
    async with http.get(f"{edges[0].url}/v1/models", headers=bearer(key)) as answer:
        error = (await answer.json())["error"]
    assert (error["code"], error["message"]) == ("invalid_api_key", "This API key is revoked.")
    assert await status(http, edges[0], site.static) == 200, "the site's own key stays"


def listed(site: Site) -> list[Any]:
    with site.database.read() as connection:
        return queries.keys(connection)


async def test_a_key_expires_by_itself(
    file_site: Site, start_gate: StartGate, http: aiohttp.ClientSession
) -> None:
    edge = start_gate(file_site)
    key = file_site.key(seconds=8)
    began = time.time()

    async def is_open() -> bool:
        return await status(http, edge, key) == 200

    await eventually(is_open, CHANGE_SECONDS)
    await asyncio.sleep(began + 8.1 - time.time())
    assert await status(http, edge, key) == 401


async def test_groups_decide_which_models_there_are(
    site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    site.office.groups.put(EVERYONE, models=[])
    site.office.groups.put("chemistry", models=[MODEL])
    site.office.groups.put("payers", models=["*", EXTERNAL])
    site.office.groups.put("vectors", models=[MODEL], endpoints=["embeddings"])
    none, chemist = site.key(BOB), site.key(ADA, groups=("chemistry",))
    payer, vectors = site.key("p", groups=("payers",)), site.key("v", groups=("vectors",))
    edge = start_gate(site)
    assert await models(http, edge, none) == []
    assert await models(http, edge, chemist) == [MODEL]
    assert await models(http, edge, payer) == [MODEL, EXTERNAL]
    assert await models(http, edge, site.static) == [MODEL, EXTERNAL]
    unknown = await ask(http, edge, none, model="nothing-like-it")
    for key, name in ((none, MODEL), (chemist, EXTERNAL)):
        code, body, _ = await ask(http, edge, key, model=name)
        assert code == 404
        # As if it were not there at all.
        expected = unknown[1]["error"]["message"].replace("nothing-like-it", name)
        assert body["error"]["message"] == expected
        url = f"{edge.url}/v1/models/{name}"
        async with http.get(url, headers=bearer(key)) as answer:
            assert answer.status == 404
        async with http.get(f"{url}/queue", headers=bearer(key)) as answer:
            assert answer.status == 404
    code, body, _ = await ask(http, edge, vectors)
    assert (code, body["error"]["code"]) == (403, "permission_denied")
    async with answering(worker):
        assert (await ask(http, edge, chemist))[0] == 200


async def test_the_third_request_passes_and_the_fourth_does_not(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    minted = file_site.office.keys.create(ADA, make=True)
    rate = limit(SubjectKind.KEY, minted.record.id, 3, window=LimitWindow.MINUTE)
    file_site.office.limits.set([rate])
    edge = start_gate(file_site)
    window_begins(15)
    async with answering(worker):
        left = []
        for _ in range(3):
            code, _, headers = await ask(http, edge, minted.key)
            assert code == 200
            left.append(headers["x-ratelimit-remaining-requests"])
            assert headers["x-ratelimit-limit-requests"] == "3"
            assert headers["x-ratelimit-reset-requests"].endswith("s")
        assert left == ["2", "1", "0"]
        code, body, headers = await ask(http, edge, minted.key)
        assert code == 429
        assert body["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(headers["retry-after"]) <= 60
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert "x-should-retry" not in headers
        async with openai.AsyncOpenAI(
            base_url=f"{edge.url}/v1", api_key=minted.key, max_retries=0
        ) as api:
            with pytest.raises(openai.RateLimitError):
                await api.chat.completions.create(**CHAT)
        streamed = {"model": MODEL, "stream": True}
        code, body, _ = await ask(http, edge, minted.key, **streamed)
        assert code == 429, "before a stream has begun its status tells"
        assert (await ask(http, edge, file_site.static))[0] == 200


async def test_a_day_is_a_budget_that_a_restart_does_not_fill_again(
    site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = site.key()
    site.office.limits.set([limit(SubjectKind.USER, ADA, 2)])
    edge = start_gate(site)
    async with answering(worker):
        assert [(await ask(http, edge, key))[0] for _ in range(2)] == [200, 200]
    edge.process.terminate()
    assert edge.process.wait(20) == 0
    edge = start_gate(site)
    code, body, headers = await ask(http, edge, key)
    assert code == 429
    assert (body["error"]["code"], body["error"]["type"]) == (
        "insufficient_quota", "insufficient_quota",
    )  # fmt: skip
    assert int(headers["retry-after"]) <= 120
    assert headers["x-should-retry"] == "false"


async def test_tokens_are_charged_as_the_engine_counts_them(
    site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    site.office.groups.put("chemistry", models=["*"])
    keys = [site.key(owner, groups=("chemistry",)) for owner in (ADA, BOB)]
    site.office.limits.set(
        [
            limit(
                SubjectKind.GROUP, "chemistry", 40, metric=Metric.TOKENS, window=LimitWindow.HOUR
            ),
            limit(SubjectKind.GROUP, "chemistry", 60, metric=Metric.TOKENS, each=False),
        ]
    )
    edge = start_gate(site)

    async def use(key: str, tokens: int) -> tuple[int, str, str]:
        asked = asyncio.create_task(ask(http, edge, key))
        taken = asyncio.create_task(worker.take())
        await asyncio.wait({asked, taken}, return_when=asyncio.FIRST_COMPLETED)
        if not taken.done():
            taken.cancel()
            code, body, headers = await asked
            return code, body["error"]["code"], headers["x-ratelimit-remaining-tokens"]
        job = await taken
        await job.send(job.accepted(), job.head(), *job.chunks(whole("x")))
        await job.send(End(job.attempt, 3, Usage(10, tokens - 10), Timings()))
        await job.ack()
        code, _, headers = await asked
        return code, "", headers["x-ratelimit-remaining-tokens"]

    assert await use(keys[0], 35) == (200, "", "40")
    assert await use(keys[0], 15) == (200, "", "5"), "what is left lets the last one in"
    assert await use(keys[0], 1) == (429, "rate_limit_exceeded", "0")
    assert await use(keys[1], 12) == (200, "", "10"), "together they have 60"
    assert await use(keys[1], 1) == (429, "insufficient_quota", "0")


async def test_what_is_under_way_at_once_is_bounded(
    site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = site.key()
    site.office.limits.set(
        [
            limit(SubjectKind.USER, ADA, 3, metric=Metric.CONCURRENCY, window=LimitWindow.NOW),
            limit(SubjectKind.USER, ADA, 2, metric=Metric.QUEUED, window=LimitWindow.NOW),
        ]
    )
    edges = [start_gate(site), start_gate(site)]
    asked = [asyncio.create_task(ask(http, edges[0], key)) for _ in range(2)]
    first = await worker.take()

    second = await worker.take()
    code, body, headers = await ask(http, edges[0], key)
    assert (code, body["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "2 requests that wait" in body["error"]["message"]
    assert headers["retry-after"] == "2"
    await first.send(first.accepted())
    await second.send(second.accepted())

    async def once_fewer_wait() -> Answered:
        while (answered := await ask(http, edges[0], key))[0] == 429:
            pass
        return answered

    asked.append(asyncio.create_task(once_fewer_wait()))
    third = await worker.take()
    code, body, _ = await ask(http, edges[0], key)
    assert "3 requests at once" in body["error"]["message"]

    async def refused_there() -> bool:
        try:
            async with asyncio.timeout(1):
                return (await ask(http, edges[1], key))[0] == 429
        except TimeoutError:
            return False

    await eventually(refused_there, 30)
    for job in (first, second, third):
        await job.answer(whole("x"))
    assert [(await each)[0] for each in asked] == [200, 200, 200]
    async with answering(worker):
        assert (await ask(http, edges[0], key))[0] == 200, "what has ended counts no more"


def rows(site: Site) -> list[dict[str, Any]]:
    with site.database.read() as connection:
        found = connection.execute(select(schema.usage).order_by(schema.usage.c.at))
        return [dict(row) for row in found.mappings()]


async def test_every_request_is_accounted_without_its_content(
    site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    site.office.groups.put("chemistry", models=[MODEL])
    key = site.key(groups=("chemistry",))
    site.office.people.put(ADA, organisation="Uni Example")
    edge = start_gate(site)
    stream = CHAT | {"stream": True}
    url = f"{edge.url}/v1/chat/completions"

    done = asyncio.create_task(ask(http, edge, key))
    job = await worker.take()
    await job.send(job.accepted(), job.head(), *job.chunks(whole("x")))
    await job.send(End(job.attempt, 3, Usage(11, 22), Timings(0.1, 0.2, 3.5)))
    await job.ack()
    assert (await done)[0] == 200

    async with http.post(url, headers=bearer(key), json=stream) as answer:
        job = await worker.take()
        await job.send(job.accepted(), job.head(), *job.chunks(sse("PLANTED-answer"), sse("b")))
        # What is read first may be a comment that says where it is in the queue.
        await answer.content.readuntil(b"PLANTED-answer")
    # The client has left. The worker is told, stops, and says what the engine has counted.
    control = await asyncio.wait_for(worker.controls.get(), 20)
    assert isinstance(control, Cancel)
    fail = Fail(job.attempt, 4, Code.CANCELLED, "-", False, Usage(11, 7), Timings(0.1, 0.3, 1.25))
    await job.send(fail)
    await job.ack()

    failing = asyncio.create_task(ask(http, edge, key))
    job = await worker.take()
    await job.send(job.accepted(), Fail(job.attempt, 1, Code.DEADLINE_EXCEEDED, "late", False,
                                        Usage(11, 3), Timings()))  # fmt: skip
    await job.ack()
    assert (await failing)[0] == 504

    async with http.post(url, headers=bearer(key), json=CHAT | {"messages": []}) as answer:
        assert answer.status == 422

    async def are_there() -> bool:
        return len(rows(site)) == 3

    await eventually(are_there, 30)
    ok, left, late = rows(site)
    assert (ok["prompt_tokens"], ok["completion_tokens"], ok["gpu_seconds"]) == (11, 22, 3.5)
    assert (left["prompt_tokens"], left["completion_tokens"], left["gpu_seconds"]) == (11, 7, 1.25)
    assert (late["completion_tokens"], late["status"], late["outcome"]) == (
        3, 504, "deadline_exceeded",
    )  # fmt: skip
    assert (left["status"], left["outcome"]) == (499, "cancelled")
    for row in (ok, left, late):
        assert row["organisation"] == "Uni Example"
        assert (row["group"], row["model"], row["cluster"], row["endpoint"]) == (
            "chemistry", MODEL, "north", "chat",
        )  # fmt: skip
        assert 0 <= row["queue_seconds"] <= row["total_seconds"] < 30
        assert row["tenant"] not in {ADA, key}
    assert len({row["tenant"] for row in (ok, left, late)}) == 1
    saved = "\n".join(backup.lines(site.database))
    assert "PLANTED" not in saved
    assert "PLANTED" not in edge.log()
    assert ADA not in edge.log()
    with site.database.read() as connection:
        used = queries.keys(connection)[0].last_used
    assert used is not None
    assert abs(used - time.time()) < 30


async def test_a_client_that_leaves_as_its_request_is_taken_is_accounted_too(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = file_site.key()
    edge = start_gate(file_site)
    asking = asyncio.create_task(ask(http, edge, key))
    job = await worker.take()
    asking.cancel()
    finished = f'"request":"{job.request.id}"'

    async def is_over() -> bool:
        return any("finished" in line and finished in line for line in edge.log().splitlines())

    await eventually(is_over)
    usage = Usage(11, 2)
    await job.send(
        job.accepted(), Fail(job.attempt, 1, Code.CANCELLED, "-", False, usage, Timings())
    )
    await job.ack()

    async def is_there() -> bool:
        return len(rows(file_site)) == 1

    await eventually(is_there)
    (row,) = rows(file_site)
    assert (row["prompt_tokens"], row["completion_tokens"], row["status"]) == (11, 2, 499)


async def test_a_client_that_leaves_with_all_of_its_answer_has_not_cancelled(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    """Many close as soon as they have read `[DONE]`; the worker's last word may come after that."""
    key = file_site.key()
    edge = start_gate(file_site)
    url = f"{edge.url}/v1/chat/completions"
    jobs = []
    for end_comes in (True, False):
        async with http.post(url, headers=bearer(key), json=CHAT | {"stream": True}) as answer:
            job = await worker.take()
            await job.send(job.accepted(), job.head(), *job.chunks(sse("a"), DONE))
            await answer.content.readuntil(DONE)
            answer.close()
        jobs.append(job)
        await asyncio.sleep(0.3)  # the edge has seen it leave; if not, it is as good
        if end_comes:
            await job.send(End(job.attempt, 4, Usage(11, 22), Timings(0.1, 0.2, 3.5)))
            await job.ack()
            await asyncio.sleep(0.3)  # time enough for a cancel that must not come
            assert worker.controls.empty(), "nothing is to be cancelled"
            assert worker.broadcasts.empty()
    ids = [job.request.id for job in jobs]
    control = await asyncio.wait_for(worker.controls.get(), 20)
    assert control == Cancel(ids[1]), "an end that does not come is not awaited for ever"
    fail = Fail(jobs[1].attempt, 4, Code.CANCELLED, "-", False, Usage(11, 7), Timings())
    await jobs[1].send(fail)
    await jobs[1].ack()

    async def are_there() -> bool:
        return len(rows(file_site)) == 2

    await eventually(are_there)
    ok, left = rows(file_site)
    assert (ok["status"], ok["outcome"]) == (200, "ok")
    assert (ok["prompt_tokens"], ok["completion_tokens"], ok["gpu_seconds"]) == (11, 22, 3.5)
    assert (left["status"], left["outcome"], left["completion_tokens"]) == (499, "cancelled", 7)
    told = [json.loads(line) for line in edge.log().splitlines() if '"finished"' in line]
    assert [(each["request"], each["outcome"], each["status"]) for each in told] == [
        (ids[0], "ok", 200), (ids[1], "cancelled", 499),
    ]  # fmt: skip
    assert (told[0]["prompt_tokens"], told[0]["completion_tokens"]) == (11, 22)
    _, metrics = edge.get("/metrics")
    for outcome in ("ok", "cancelled"):
        label = f'headrace_edge_requests_total{{model="{SLUG}",outcome="{outcome}"}} 1.0'
        assert label.encode() in metrics


async def test_accounts_are_written_at_the_end_and_survive_a_store_that_is_away(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = file_site.key()
    edge = start_gate(file_site)

    def has_failed() -> bool:
        told = edge.get("/metrics")[1].decode()
        return "headrace_edge_usage_write_failures_total 0.0" not in told

    with file_site.database.write() as connection:
        connection.execute(text("ALTER TABLE usage RENAME TO elsewhere"))
    async with answering(worker):
        assert (await ask(http, edge, key))[0] == 200
        await asyncio.to_thread(until, has_failed, 30, edge.log)
        assert (await ask(http, edge, key))[0] == 200, "requests do not wait for accounts"

    async def both_wait() -> bool:
        return b"headrace_edge_usage_rows_waiting 2.0" in edge.get("/metrics")[1]

    await eventually(both_wait)
    with file_site.database.write() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO usage"))
    edge.process.terminate()
    assert edge.process.wait(20) == 0
    assert len(rows(file_site)) == 2


async def test_a_store_that_is_away_locks_nobody_out_at_once_and_everybody_in_the_end(
    file_site: Site, start_gate: StartGate, http: aiohttp.ClientSession
) -> None:
    key = file_site.key()
    edge = start_gate(file_site, store={"stale_seconds": 5, "poll_seconds": 0.3})
    with file_site.database.write() as connection:
        connection.execute(text("ALTER TABLE revision RENAME TO elsewhere"))
    await asyncio.sleep(1.5)  # several looks fail, and it is not yet stale
    assert await status(http, edge, key) == 200

    async def is_stale() -> bool:
        return await status(http, edge, key) == 503

    await eventually(is_stale, 30)
    assert await status(http, edge, file_site.static) == 200
    with file_site.database.write() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO revision"))

    async def is_back() -> bool:
        return await status(http, edge, key) == 200

    await eventually(is_back)
    failures = [line for line in edge.log().splitlines() if "store_failed" in line]
    assert len(failures) == 1, "it is told once"
    assert json.loads(failures[0])["level"] == "error"


async def test_a_stream_carries_the_limits_too(
    file_site: Site, start_gate: StartGate, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    key = file_site.key()
    file_site.office.limits.set([limit(SubjectKind.USER, ADA, 9)])
    edge = start_gate(file_site)
    url = f"{edge.url}/v1/chat/completions"
    async with (
        answering(worker, sse("a") + DONE),
        http.post(url, headers=bearer(key), json=CHAT | {"stream": True}) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["x-ratelimit-remaining-requests"] == "8"
        assert (await answer.read()).endswith(DONE)
