"""What a waiting client is told, on a real hub: the test sends plans as a scaler does."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from headrace.protocol import codec, subjects
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.names import Slug
from headrace.protocol.plan import Facts, Interval, ModelPhase, Plan
from headrace.protocol.state import WorkerPhase
from tests.support.edge_kit import (
    DONE,
    MODEL,
    SLUG,
    Edge,
    Hub,
    ScriptedWorker,
    StartEdge,
    eventually,
    sse,
)

pytestmark = pytest.mark.anyio

NEW = Facts("Acme/New-1", (Endpoint.CHAT,), "text", "A new one.", "lab")
COMMENT = re.compile(
    rb": queued position=(\d+|unknown) eta=(\d+-\d+s|unknown) state=([a-z]+) waited=\d+s"
)


def body(model: str = MODEL, *, stream: bool = True) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": stream}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


def client(edge: Edge) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{edge.url}/v1", api_key=edge.key, max_retries=0, timeout=30
    )


async def announce(worker: ScriptedWorker, cluster: str = "north", **changes: Any) -> None:
    """Publish a plan of the kit's model, or of the one that `changes` say."""
    values: dict[str, Any] = {
        "version": 1,
        "cluster": cluster,
        "model": SLUG,
        "facts": Facts(MODEL, (Endpoint.CHAT,)),
        "phase": ModelPhase.PENDING,
        "sent": 0.0,
    }
    plan = Plan(**values | changes)
    await worker.bus.publish(
        subjects.plan(Slug(plan.cluster), Slug(plan.model)), codec.encode(plan)
    )
    await worker.bus.flush()


def models(edge: Edge) -> dict[str, dict[str, Any]]:
    page = json.loads(edge.get("/v1/models")[1])
    return {model["id"]: model["headrace"] for model in page["data"]}


def queue(edge: Edge, model: str = MODEL) -> dict[str, Any]:
    status, data = edge.get(f"/v1/models/{model}/queue")
    assert status == 200
    found: dict[str, Any] = json.loads(data)
    return found


async def is_state(edge: Edge, state: str, model: str = MODEL) -> None:
    async def there() -> bool:
        known = models(edge).get(model)
        return known is not None and known["state"] == state

    await eventually(there)


async def waiting_is(worker: ScriptedWorker, count: int) -> None:
    async def so_many() -> bool:
        return await worker.waiting() == count

    await eventually(so_many)


async def post(
    http: aiohttp.ClientSession, edge: Edge, asked: dict[str, Any], **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    named = {f"x-headrace-{name}": value for name, value in headers.items()}
    url = f"{edge.url}/v1/chat/completions"
    async with http.post(url, headers=edge.headers | named, json=asked) as answer:
        told = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, await answer.read(), told


def code(data: bytes) -> str:
    return str(json.loads(data)["error"]["code"])


async def test_a_plan_makes_a_model_appear_and_another_takes_it_away(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(hold_seconds=0.1)
    assert edge.get("/v1/models/Acme/New-1")[0] == 404
    here: dict[str, Any] = {"model": "new-1", "facts": NEW}
    await announce(worker, **here, phase=ModelPhase.COLD)
    await is_state(edge, "cold", "Acme/New-1")
    assert list(models(edge)) == [MODEL, "Acme/New-1"]
    told = models(edge)["Acme/New-1"]
    assert (told["group"], told["description"], told["modality"]) == ("lab", "A new one.", "text")
    # Its queue is there: a worker pulls from it at once.
    async with client(edge) as api:
        asking = asyncio.create_task(api.chat.completions.create(**body("Acme/New-1")))
        job = await worker.take(model=Slug("new-1"))
        assert job.request.model == "new-1"
        await job.answer(sse("hi"), DONE)
        assert [chunk.choices[0].delta.content async for chunk in await asking] == ["hi"]
        with pytest.raises(openai.BadRequestError, match="does not serve"):
            await api.embeddings.create(model="new-1", input="x")
    # A second cluster has it as well: one model, the better state of the two.
    await announce(worker, "south", **here, phase=ModelPhase.LOADING)
    await is_state(edge, "loading", "Acme/New-1")
    queued = asyncio.create_task(post(http, edge, body("new-1", stream=False)))
    await eventually(lambda: _waits(edge, "new-1", 1))
    await announce(worker, **here, removed=True)
    await is_state(edge, "loading", "Acme/New-1")
    await announce(worker, "south", **here, removed=True)
    status, data, _ = await queued
    assert (status, code(data)) == (410, "model_removed")
    assert list(models(edge)) == [MODEL]
    assert (await post(http, edge, body("new-1")))[0] == 404
    # What is in edge.toml stays, whatever a cluster says.
    await announce(worker, removed=True)
    await asyncio.sleep(0.2)
    assert list(models(edge)) == [MODEL]


async def _waits(edge: Edge, model: str, count: int) -> bool:
    return bool(queue(edge, model)["waiting"] == count)


async def test_a_plan_that_lies_about_its_cluster_is_not_believed(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    edge = start_edge()
    plan = Plan(1, "south", "new-1", NEW, ModelPhase.READY, 0.0)
    await worker.bus.publish("hr.plan.north.new-1", codec.encode(plan))
    await worker.bus.publish("hr.plan.north.x", b"\xff")
    await announce(worker, phase=ModelPhase.LOADING)
    await is_state(edge, "loading")
    assert list(models(edge)) == [MODEL]
    assert "headrace_edge_bad_messages_total 2.0" in edge.get("/metrics")[1].decode()


async def test_position_and_time_in_comments_headers_and_queue(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(hold_seconds=1.5, comment_seconds=0.5)
    times: dict[str, Any] = {"ready_in": Interval(40, 90), "each": Interval(2, 8)}
    await announce(worker, **times, worker_slots=2, pending=1, reason="Resources")
    await is_state(edge, "pending")
    url = f"{edge.url}/v1/chat/completions"
    first = [asyncio.create_task(post(http, edge, body())) for _ in range(2)]
    await waiting_is(worker, 2)
    async with http.post(url, headers=edge.headers, json=body()) as answer:
        assert answer.headers["x-headrace-state"] == "pending"
        assert answer.headers["x-headrace-position"] == "3"
        low, high = map(int, answer.headers["x-headrace-eta"].rstrip("s").split("-"))
        # A round of 2 to 8 s behind the first two, and some seconds have passed.
        assert 30 <= low <= 42
        assert 85 <= high <= 98
        line = await answer.content.readline()
        found = COMMENT.fullmatch(line.strip())
        assert found is not None
        assert (found[1], found[3]) == (b"3", b"pending")
        told = await asyncio.to_thread(queue, edge)
        assert (told["waiting"], told["position_of_next"], told["running"]) == (3, 4, 0)
        assert (told["state"], told["reason"], told["pending"]) == ("pending", "Resources", 1)
        assert 30 < told["eta"]["low"] < told["eta"]["high"] < 99
        listed = await asyncio.to_thread(models, edge)
        assert listed[MODEL]["waiting"] in (None, 3)
        # A worker is there and takes the first two: positions fall, and never rise.
        await worker.beat()
        for _ in range(2):
            await (await worker.take()).answer(sse("x"), DONE)
        positions = [3]
        async with asyncio.timeout(30):
            while positions[-1] != 1:
                line = (await answer.content.readline()).strip()
                if found := COMMENT.fullmatch(line):
                    positions.append(int(found[1]))
        assert positions == sorted(positions, reverse=True)
        await (await worker.take()).answer(sse("x"), DONE)
        assert b"[DONE]" in await answer.read()
    assert [status for status, *_ in await asyncio.gather(*first)] == [200, 200]


async def test_who_leaves_brings_the_others_forward(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(hold_seconds=0.2, comment_seconds=0.3)
    first = asyncio.create_task(post(http, edge, body()))
    await waiting_is(worker, 1)
    async with http.post(
        f"{edge.url}/v1/chat/completions", headers=edge.headers, json=body()
    ) as answer:
        await _until_position(answer, 2)
        first.cancel()
        await _until_position(answer, 1)


async def _until_position(answer: aiohttp.ClientResponse, place: int) -> None:
    async with asyncio.timeout(30):
        while True:
            found = COMMENT.fullmatch((await answer.content.readline()).strip())
            if found and found[1] == b"%d" % place:
                return


async def test_failing_fast(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge()
    demands: asyncio.Queue[bytes] = asyncio.Queue()
    await worker.bus.subscribe(
        subjects.DEMANDS, lambda message: demands.put_nowait(bytes(message.data))
    )
    status, data, told = await post(http, edge, body(), wait="fail")
    assert (status, code(data)) == (503, "model_not_ready")
    assert (told["retry-after"], told["x-headrace-eta"]) == ("30", "unknown")
    assert (told["x-headrace-state"], told["x-headrace-position"]) == ("cold", "1")
    assert "x-should-retry" not in told
    assert await worker.waiting() == 0
    assert await asyncio.wait_for(demands.get(), 20) == b"turned-away"
    await announce(worker, ready_in=Interval(300, 900))
    await is_state(edge, "pending")
    status, data, told = await post(http, edge, body(stream=False), wait="fail")
    assert (status, told["retry-after"]) == (503, "120")
    await worker.beat()
    await is_state(edge, "ready")
    asking = asyncio.create_task(post(http, edge, body(), wait="fail"))
    await (await worker.take()).answer(sse("x"), DONE)
    assert (await asking)[0] == 200
    status, data, _ = await post(http, edge, body(), wait="perhaps")
    assert (status, code(data)) == (400, "invalid_request")


async def test_failing_fast_by_key(start_edge: StartEdge, worker: ScriptedWorker) -> None:
    edge = start_edge(key_options={"wait": "fail"})
    async with client(edge) as api:
        with pytest.raises(openai.InternalServerError) as refused:
            await api.chat.completions.create(**body())
        assert refused.value.status_code == 503
        assert refused.value.code == "model_not_ready"
        # The request's own word goes before its key's.
        asking = asyncio.create_task(
            api.chat.completions.create(**body(), extra_headers={"x-headrace-wait": "hold"})
        )
        await (await worker.take()).answer(sse("x"), DONE)
        assert [chunk.choices[0].delta.content async for chunk in await asking] == ["x"]


async def test_a_maximum_wait(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(hold_seconds=0.3)
    plain, streamed = await asyncio.gather(
        post(http, edge, body(stream=False), wait="1"), post(http, edge, body(), wait="1")
    )
    assert (plain[0], code(plain[1])) == (503, "wait_exceeded")
    assert plain[2]["x-headrace-state"] == "cold"
    assert streamed[0] == 200
    event = streamed[1].splitlines()[-2].removeprefix(b"data: ")
    assert code(event) == "wait_exceeded"
    await waiting_is(worker, 0)


async def test_a_failed_model_says_why_at_once(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge()
    waiting = asyncio.create_task(post(http, edge, body(stream=False)))
    stubborn = asyncio.create_task(post(http, edge, body(stream=False), wait="hold"))
    await waiting_is(worker, 2)
    await announce(worker, phase=ModelPhase.FAILED, reason="GPU memory is too small")
    await is_state(edge, "failed")
    now = await post(http, edge, body(), wait="20")
    for status, data, told in (await waiting, now):
        assert (status, code(data)) == (503, "model_failed")
        assert "GPU memory is too small" in json.loads(data)["error"]["message"]
        assert told["x-should-retry"] == "false"
        assert told["x-headrace-state"] == "failed"
    assert not stubborn.done()
    await waiting_is(worker, 1)  # who was told why has left the queue
    await announce(worker, phase=ModelPhase.LOADING)
    await worker.beat(WorkerPhase.READY)
    await (await worker.take()).answer(b"{}")
    assert (await stubborn)[0] == 200


@pytest.mark.parametrize("form", ["comment", "chunk", "off"])
async def test_the_openai_client_bears_every_keepalive(
    start_edge: StartEdge, worker: ScriptedWorker, form: str
) -> None:
    edge = start_edge(hold_seconds=0.1, comment_seconds=0.2, key_options={"keepalive": form})
    async with client(edge) as api:
        asking = asyncio.create_task(api.chat.completions.create(**body()))
        legacy = asyncio.create_task(
            api.completions.create(model=MODEL, prompt="x", stream=True, max_tokens=1)
        )
        if form == "off":
            await asyncio.sleep(1.5)  # would they be kept alive, by then they were
            assert not asking.done()
            assert not legacy.done()
        else:
            _, waiting = await asyncio.wait([asking, legacy], timeout=20)
            assert not waiting
        for _ in range(2):
            job = await worker.take()
            text = b'data: {"id":"c","object":"text_completion","choices":[{"index":0,"text":"a"}]}'
            chat = job.request.endpoint is Endpoint.CHAT
            await job.answer(sse("a") if chat else text + b"\n\n", DONE)
        chunks = [chunk async for chunk in await asking]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "a"
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        texts = [chunk async for chunk in await legacy]
        assert "".join(chunk.choices[0].text for chunk in texts) == "a"
        assert (len(chunks) > 1, len(texts) > 1) == (form == "chunk", form == "chunk")


async def test_soon_after_the_start_an_unknown_model_may_still_be_announced(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(learn_seconds=6)
    status, data, told = await post(http, edge, body("Acme/New-1"))
    assert (status, code(data)) == (503, "service_unavailable")
    assert int(told["retry-after"]) <= 6

    async def is_gone() -> bool:
        return (await post(http, edge, body("Acme/New-1")))[0] == 404

    await eventually(is_gone)


async def test_an_announced_model_survives_the_hubs_death(
    start_edge: StartEdge, worker: ScriptedWorker, hub: Hub
) -> None:
    edge = start_edge()
    await announce(worker, model="new-1", facts=NEW)
    await is_state(edge, "pending", "Acme/New-1")
    async with client(edge) as api:
        asking = asyncio.create_task(api.chat.completions.create(**body("new-1")))
        await eventually(lambda: _waits(edge, "new-1", 1))
        await asyncio.to_thread(hub.server.kill)
        await asyncio.to_thread(hub.server.start)
        await asyncio.to_thread(edge.wait_ready)
        await (await worker.take(model=Slug("new-1"))).answer(sse("late"), DONE)
        assert [chunk.choices[0].delta.content async for chunk in await asking] == ["late"]
        # Its cluster says nothing for a while; the model stays.
        assert list(models(edge)) == [MODEL, "Acme/New-1"]
