"""The edge on a real hub: what clients see, whatever workers do."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import openai
import pytest

from headrace.cli.demo.processes import descendants
from headrace.devcluster.loopback import free_port
from headrace.protocol.control import WINDOW_BYTES, Cancel, Credit, Gone, Resume
from headrace.protocol.errors import Code
from headrace.protocol.frames import Accepted, Fail
from headrace.protocol.names import LANES
from headrace.protocol.state import WorkerPhase
from tests.faults.harness.proxy import Proxy
from tests.support.edge_kit import (  # fmt: skip
    DONE,
    MODEL,
    SLUG,
    Edge,
    Hub,
    Job,
    ScriptedWorker,
    StartEdge,
    eventually,
    sse,
    whole,
)

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "PLANTED-9f3"}]}
STREAM = CHAT | {"stream": True}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@pytest.fixture
async def way(hub: Hub) -> AsyncIterator[Proxy]:
    """To the hub."""
    port = free_port()
    proxy = Proxy(port, hub.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


def client(edge: Edge, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{edge.url}/v1", api_key=edge.key, max_retries=0, timeout=30, **options
    )


async def post(
    http: aiohttp.ClientSession, edge: Edge, body: dict[str, Any], path: str = "chat/completions"
) -> tuple[int, bytes, Mapping[str, str]]:
    async with http.post(f"{edge.url}/v1/{path}", headers=edge.headers, json=body) as answer:
        return answer.status, await answer.read(), answer.headers


async def test_the_openai_client_gets_its_answers(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    async with client(start_edge()) as api:
        chat = asyncio.create_task(api.chat.completions.create(**CHAT))
        job = await worker.take()
        assert json.loads(job.request.body)["messages"] == CHAT["messages"]
        await job.answer(whole("Hello."))
        assert (await chat).choices[0].message.content == "Hello."
        assert len((await chat)._request_id or "") == 32

        stream = asyncio.create_task(api.chat.completions.create(**STREAM))
        job = await worker.take()
        tokens = [f"{number} " for number in range(20)]
        await job.answer(*[sse(token) for token in tokens], DONE)
        read = [chunk.choices[0].delta.content async for chunk in await stream]
        assert read == tokens

        legacy = asyncio.create_task(api.completions.create(model=MODEL, prompt="x"))
        job = await worker.take()
        assert job.request.endpoint == "completions"
        await job.answer(
            b'{"id":"c","object":"text_completion","choices":[{"index":0,"text":"y"}]}'
        )
        assert (await legacy).choices[0].text == "y"

        vector = asyncio.create_task(
            api.embeddings.create(model=MODEL, input="x", encoding_format="float")
        )
        job = await worker.take()
        assert job.request.endpoint == "embeddings"
        await job.answer(
            b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1.0]}]}'
        )
        assert (await vector).data[0].embedding == [1.0]


async def test_models_are_listed_with_their_state(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    edge = start_edge()

    def state() -> str:
        return str(json.loads(edge.get("/v1/models")[1])["data"][0]["headrace"]["state"])

    async def is_state(wanted: str) -> bool:
        return state() == wanted

    async with client(edge) as api:
        assert [model.id async for model in api.models.list()] == [MODEL]
        assert (await api.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(openai.NotFoundError) as missing:
            await api.models.retrieve("nope")
        assert missing.value.code == "model_not_found"
    assert state() == "cold"
    await worker.beat(WorkerPhase.LOADING)
    await eventually(lambda: is_state("loading"))
    await worker.beat()
    await eventually(lambda: is_state("ready"))
    await worker.beat(WorkerPhase.GONE)
    await eventually(lambda: is_state("cold"))


REFUSALS: list[tuple[str, str, bytes, dict[str, str], int, str | None]] = [
    ("GET", "/v1/models", b"", {"authorization": "Bearer nope"}, 401, "invalid_api_key"),
    ("POST", "/v1/chat/completions", b"{}", {"authorization": ""}, 401, "invalid_api_key"),
    ("POST", "/v1/chat/completions", b"{bad", {}, 400, "invalid_json"),
    ("POST", "/v1/chat/completions", b"{}", {}, 422, "unprocessable_request"),
    ("POST", "/v1/chat/completions", b'{"model":"nope","messages":[1]}', {}, 404,
     "model_not_found"),
    ("POST", "/v1/chat/completions", b"x" * 5000, {}, 413, "request_too_large"),
    ("POST", "/v1/chat/completions", b"{}", {"content-type": "text/plain"}, 415,
     "unsupported_media_type"),
    ("GET", "/v1/chat/completions", b"", {}, 405, "method_not_allowed"),
    ("DELETE", "/v1/models", b"", {}, 405, "method_not_allowed"),
    ("GET", "/nothing/here", b"", {}, 404, "unknown_url"),
    ("GET", "/v1/models/nope/../x", b"", {}, 404, None),
    ("POST", "/v1/chat/completions/", b"{}", {}, 404, "unknown_url"),
]  # fmt: skip


async def test_every_refusal_is_an_error_object(
    start_edge: StartEdge, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(max_body_bytes=4096)
    for method, path, data, more, status, code in REFUSALS:
        headers = edge.headers | more
        async with http.request(method, edge.url + path, data=data, headers=headers) as answer:
            asked = f"{method} {path} {data[:40]!r}"
            error = (await answer.json())["error"]
            assert answer.status == status, asked
            assert set(error) == {"message", "type", "param", "code"}, asked
            assert code is None or error["code"] == code, asked
            assert len(answer.headers["x-request-id"]) == 32, asked


async def test_a_body_that_grows_beyond_the_bound_is_refused(
    start_edge: StartEdge, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(max_body_bytes=4096)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 1024

    url = f"{edge.url}/v1/chat/completions"
    async with http.post(url, headers=edge.headers, data=endless()) as answer:
        assert answer.status == 413


async def test_what_is_not_http_is_told_so(start_edge: StartEdge) -> None:
    edge = start_edge()
    for sent, status in (
        (b"NOT HTTP AT ALL\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 200_000, b"431"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]
        writer.close()


async def test_a_waiting_stream_gets_comments_and_nothing_that_breaks_parsers(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(hold_seconds=0.2, comment_seconds=0.2)
    url = f"{edge.url}/v1/chat/completions"
    async with http.post(url, headers=edge.headers, json=STREAM) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [await answer.content.readline() for _ in range(4)]
        assert lines[0].startswith(b": queued position=")
        assert b" eta=unknown state=cold waited=" in lines[0]
        assert lines[1] == b"\n"
        await (await worker.take()).answer(sse("late"), DONE)
        lines += (await answer.read()).splitlines(keepends=True)
    data = [line for line in lines if line.startswith(b"data: ")]
    assert data == [sse("late").strip() + b"\n", b"data: [DONE]\n"]
    assert all(line == b"\n" or line.startswith((b": ", b"data: ")) for line in lines)


async def test_the_openai_client_bears_the_comments(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    async with client(start_edge(hold_seconds=0.1, comment_seconds=0.1)) as api:
        stream = await api.chat.completions.create(**STREAM)  # returns with the first comment
        await (await worker.take()).answer(sse("late"), DONE)
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["late"]


async def test_leaving_while_queued_takes_the_request_out_of_the_queue(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge()
    asking = asyncio.create_task(post(http, edge, CHAT))

    async def backlog_is(count: int) -> bool:
        return await worker.waiting() == count

    await eventually(lambda: backlog_is(1))
    asking.cancel()
    await eventually(lambda: backlog_is(0))


async def test_leaving_while_running_cancels_also_when_the_cancel_is_lost_once(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(hold_seconds=30)  # no comment: the first line is the first token
    url = f"{edge.url}/v1/chat/completions"
    asking = asyncio.create_task(http.post(url, headers=edge.headers, json=STREAM))
    job = await worker.take()
    await job.send(job.accepted(), job.head(), *job.chunks(sse("a")))
    async with await asking as answer:
        await answer.content.readline()
    cancel = await asyncio.wait_for(worker.controls.get(), 10)
    assert cancel == Cancel(job.request.id)

    async def hears_it_again() -> bool:
        # The worker did not hear it and goes on. Who sends these frames, they do not say.
        await job.send(*job.chunks(sse("b"), first=3))
        return not (worker.controls.empty() and worker.broadcasts.empty())

    await eventually(hears_it_again)
    told = worker.broadcasts if worker.controls.empty() else worker.controls
    assert told.get_nowait() == cancel

    async def queue_is_empty() -> bool:
        return await worker.waiting() == 0

    await eventually(queue_is_empty)


async def test_a_lost_frame_is_asked_for_again(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    async with client(start_edge()) as api:
        stream = await asyncio.gather(
            api.chat.completions.create(**STREAM), _answer_with_a_hole(worker)
        )
        read = [chunk.choices[0].delta.content async for chunk in stream[0]]
    assert read == ["0", "1", "2", "3"]


async def _answer_with_a_hole(worker: ScriptedWorker) -> None:
    job = await worker.take()
    chunks = job.chunks(*[sse(str(number)) for number in range(4)], DONE)
    await job.send(job.accepted(), job.head(), chunks[0], chunks[2])
    ask = await asyncio.wait_for(worker.controls.get(), 15)
    assert ask == Resume(job.request.id, job.request.edge, job.attempt, 3)
    await job.send(*chunks[1:], job.end(7))
    await job.ack()


async def test_a_lost_end_is_asked_for_after_a_silence(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    asking = asyncio.create_task(post(http, start_edge(), CHAT))
    job = await worker.take()
    await job.send(job.accepted(), job.head(), *job.chunks(whole("x")))
    ask = await asyncio.wait_for(worker.controls.get(), 15)
    assert ask == Resume(job.request.id, job.request.edge, job.attempt, 3)
    await job.send(job.end(3))
    assert (await asking)[0] == 200


async def test_time_is_up_with_a_typed_error(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(deadline_seconds=1.5, hold_seconds=0.3)
    plain, streamed = await asyncio.gather(post(http, edge, CHAT), post(http, edge, STREAM))
    assert plain[0] == 504
    assert json.loads(plain[1])["error"]["code"] == "deadline_exceeded"
    event = streamed[1].splitlines()[-2]
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "deadline_exceeded"

    async def queue_is_empty() -> bool:
        return await worker.waiting() == 0

    await eventually(queue_is_empty)


async def test_a_refusal_by_the_engine_has_its_true_status_while_it_can(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    refusal = b'{"error":{"message":"too long","type":"BadRequestError","code":400}}'
    async with client(start_edge(hold_seconds=4)) as api:
        for body in (CHAT, STREAM):
            asking = asyncio.create_task(api.chat.completions.create(**body))
            await (await worker.take()).answer(refusal, status=400)
            with pytest.raises(openai.BadRequestError, match="too long"):
                await asking
        stream = await api.chat.completions.create(**STREAM)  # held too long: status 200 is out
        await (await worker.take()).answer(refusal, status=400)
        with pytest.raises(openai.APIError, match="too long"):
            _ = [chunk async for chunk in stream]


async def test_a_failed_attempt_is_taken_over_while_nothing_was_seen(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    async with client(start_edge()) as api:
        asking = asyncio.create_task(api.chat.completions.create(**STREAM))
        job = await worker.take()
        await job.send(job.accepted(), died(job, 1))
        await job.ack()
        again = await worker.take()
        assert again.request.id == job.request.id
        assert again.request.partial is None
        assert again.attempt > job.attempt
        await again.answer(sse("second"), DONE)
        assert await texts(await asking) == ["second"]


async def test_a_stream_is_continued_by_another_worker(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    async with client(start_edge()) as api:
        job, stream = await begun(api, worker)
        await job.send(died(job, 3))
        await job.ack()
        again = await worker.take()
        partial = again.request.partial
        assert partial is not None
        assert (partial.text, partial.after, partial.count) == ("a", len(sse("a")), 1)
        # One that would begin anew is refused, whatever has made it do so.
        await again.send(Accepted(again.attempt, 0, worker.id, "north"), again.head())
        assert await worker.controls.get() == Cancel(job.request.id, again.attempt)
        await again.send(*again.chunks(sse("wrong")))
        last = Job(worker, again.message)
        last.attempt = again.attempt + 1
        await last.answer(sse("b"), DONE)
        assert await texts(stream) == ["b"]
        assert await nothing_waits(worker)


async def test_a_silent_worker_may_go_on_until_another_has_begun(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    """Its link was cut for a while. What was published meanwhile is taken out again."""
    async with client(start_edge(worker_silence_seconds=1.0)) as api:
        job, stream = await begun(api, worker)

        async def published_anew() -> bool:
            return await worker.waiting() == 1 and job.delivery.stream_seq < await newest(worker)

        await eventually(published_anew)
        await job.send(*job.chunks(sse("b"), DONE, first=3), job.end(5))
        await job.ack()
        assert await texts(stream) == ["b"]
        assert await nothing_waits(worker)


async def test_a_silent_worker_is_replaced_and_told_so(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    async with client(start_edge(worker_silence_seconds=1.0)) as api:
        job, stream = await begun(api, worker)
        again = await worker.take()
        await again.send(again.accepted(), again.head())
        await job.send(*job.chunks(sse("late"), first=3))
        await again.send(*again.chunks(sse("b"), DONE), again.end(4))
        await again.ack()
        assert await texts(stream) == ["b"]

        async def told() -> bool:
            while not worker.controls.empty():
                if worker.controls.get_nowait() == Cancel(job.request.id, job.attempt):
                    return True
            return False

        await eventually(told)


async def test_what_cannot_be_continued_without_a_seam_ends_with_a_typed_error(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    async with client(start_edge()) as api:
        job, stream = await begun(api, worker, response_format={"type": "json_object"})
        await job.send(died(job, 3))
        with pytest.raises(openai.APIError, match="guided output") as caught:
            await texts(stream)
        assert caught.value.code == "not_continued"


async def test_a_request_that_ends_workers_is_set_aside(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    edge = start_edge()
    async with client(edge) as api:
        asking = asyncio.create_task(api.chat.completions.create(**CHAT))
        for _ in range(3):
            job = await worker.take()
            await job.send(job.accepted(), died(job, 1))
            await job.ack()
        with pytest.raises(openai.APIStatusError) as caught:
            await asking
        assert caught.value.code == "given_up"
        assert await nothing_waits(worker)
    await logged(edge, "given_up")


async def test_a_worker_may_send_on_as_the_client_reads(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    part = sse("x" * 65_000)
    async with client(start_edge()) as api:
        asking = asyncio.create_task(api.chat.completions.create(**STREAM))
        job = await worker.take()
        await job.send(job.accepted(), job.head(), *job.chunks(*[part] * 15))
        stream = await asking
        for _ in range(15):
            await anext(stream)
        credit = await worker.controls.get()
        assert isinstance(credit, Credit)
        assert credit.attempt == job.attempt
        assert WINDOW_BYTES * 3 // 2 <= credit.limit <= WINDOW_BYTES + 15 * len(part)
        await job.send(*job.chunks(DONE, first=17), job.end(18))
        assert await texts(stream) == []


async def test_what_a_dead_edge_has_left_is_taken_out_of_the_queue(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge()
    asking = [asyncio.create_task(post(http, edge, CHAT)) for _ in range(3)]

    async def all_wait() -> bool:
        return await worker.waiting() == 3

    await eventually(all_wait)
    taken = await worker.take()
    await taken.send(taken.accepted())
    edge.process.kill()
    await asyncio.gather(*asking, return_exceptions=True)
    start_edge()
    began = time.monotonic()
    assert await nothing_waits(worker)
    assert time.monotonic() - began < 10
    assert await asyncio.wait_for(worker.broadcasts.get(), 10) == Gone(taken.request.edge)


@pytest.mark.parametrize("half_open", [False, True])
async def test_an_edge_that_was_cut_off_for_a_while_and_the_others_lose_nothing(
    start_edge: StartEdge,
    way: Proxy,
    worker: ScriptedWorker,
    http: aiohttp.ClientSession,
    half_open: bool,
) -> None:
    cut = start_edge(port_of_hub=way.port, drain_seconds=1, ready=False)
    await asyncio.to_thread(cut.wait_ready)
    other = start_edge(drain_seconds=1)
    asking = [asyncio.create_task(post(http, edge, CHAT)) for edge in (cut, other) for _ in "12"]

    async def all_wait() -> bool:
        return await worker.waiting() == 4

    async def taken_out() -> bool:
        return await worker.waiting() == 2

    await eventually(all_wait)
    if half_open:
        way.freeze()
    else:
        way.refuse()
    await eventually(taken_out, 20)
    way.heal()
    await eventually(all_wait, 20)
    for _ in asking:
        job = await worker.take()
        await job.answer(whole("yes"))
    assert [status for status, _, _ in await asyncio.gather(*asking)] == [200] * 4


async def begun(
    api: openai.AsyncOpenAI, worker: ScriptedWorker, **more: Any
) -> tuple[Job, openai.AsyncStream[Any]]:
    """A stream whose client has been sent "a"."""
    asking = asyncio.create_task(api.chat.completions.create(**STREAM, **more))
    job = await worker.take()
    await job.send(job.accepted(), job.head(), *job.chunks(sse("a")))
    stream = await asking
    assert (await anext(stream)).choices[0].delta.content == "a"
    return job, stream


def died(job: Job, seq: int) -> Fail:
    return Fail(job.attempt, seq, Code.ENGINE_FAILED, "The engine died.", retryable=True)


async def texts(stream: Any) -> list[str]:
    return [chunk.choices[0].delta.content async for chunk in stream]


async def logged(edge: Edge, text: str, count: int = 1) -> None:
    """Wait until the edge has logged it so many times: it answers first."""

    async def is_there() -> bool:
        return edge.log().count(text) == count

    await eventually(is_there)


async def nothing_waits(worker: ScriptedWorker) -> bool:
    async def empty() -> bool:
        return await worker.waiting() == 0

    await eventually(empty)
    return True


async def newest(worker: ScriptedWorker) -> int:
    """The number of the newest message that waits to be given out, in the heaviest lane."""
    info = await worker.jetstream.consumer_info(SLUG, LANES[0])
    return info.delivered.stream_seq + info.num_pending


async def test_a_full_queue_says_when_to_come_again(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(queue={"max_requests": 2})
    waiting = [asyncio.create_task(post(http, edge, CHAT)) for _ in range(2)]

    async def both_wait() -> bool:
        return await worker.waiting() == 2

    await eventually(both_wait)
    status, body, headers = await post(http, edge, CHAT)
    assert status == 429
    assert json.loads(body)["error"]["code"] == "queue_full"
    assert 0 < int(headers["retry-after"]) <= 120
    for _ in waiting:
        await (await worker.take()).answer(whole("x"))
    assert [status for status, *_ in await asyncio.gather(*waiting)] == [200, 200]


async def test_too_many_requests_at_once_are_refused(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(max_live=1)
    first = asyncio.create_task(post(http, edge, CHAT))
    job = await worker.take()
    assert (await post(http, edge, CHAT))[0] == 503
    await job.answer(whole("x"))
    assert (await first)[0] == 200


async def test_requests_survive_the_hubs_death_in_the_queue(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession, hub: Hub
) -> None:
    edge = start_edge()
    asking = [asyncio.create_task(post(http, edge, CHAT)) for _ in range(5)]

    async def all_wait() -> bool:
        return await worker.waiting() == 5

    await eventually(all_wait)
    await asyncio.to_thread(hub.server.kill)
    await asyncio.to_thread(edge_says_503, edge)
    await asyncio.to_thread(hub.server.start)
    await asyncio.to_thread(edge.wait_ready)
    for _ in asking:
        await (await worker.take()).answer(whole("x"))
    assert [status for status, *_ in await asyncio.gather(*asking)] == [200] * 5


def edge_says_503(edge: Edge) -> None:
    from tests.support.edge_kit import until

    until(lambda: edge.get("/readyz")[0] == 503, 30)
    assert edge.get("/health")[0] == 503, "the name that engines and their tools give it"
    assert edge.get("/healthz")[0] == 200, "it lives"


async def test_several_processes_serve_one_port(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge(processes=2)
    await both_listen(edge)
    edges = set()
    for _ in range(40):
        async with aiohttp.ClientSession() as fresh:  # a new connection each time
            asking = asyncio.create_task(post(fresh, edge, CHAT))
            job = await worker.take()
            edges.add(job.request.edge)
            await job.answer(whole("x"))
            assert (await asking)[0] == 200
    assert len(edges) == 2
    counted = b'headrace_edge_requests_total{model="test-model",outcome="ok"} 40.0'

    async def are_counted() -> bool:  # the last one after it has been answered
        return counted in (await asyncio.to_thread(edge.get, "/metrics"))[1]

    await eventually(are_counted)


async def test_one_of_several_processes_takes_no_connection_before_it_is_ready(
    start_edge: StartEdge, way: Proxy
) -> None:
    edge = start_edge(processes=2, port_of_hub=way.port, ready=False)
    await both_listen(edge)
    way.slow(delay=0.1)  # so that the next one takes a while
    first, _ = descendants(edge.process.pid)
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(60):
        while edge.listeners() == 2:  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0)
        while edge.listeners() < 2:
            assert (await asyncio.to_thread(edge.get, "/readyz"))[0] == 200
    for _ in range(20):
        assert (await asyncio.to_thread(edge.get, "/readyz"))[0] == 200


async def test_without_a_hub_several_processes_say_so(start_edge: StartEdge, hub: Hub) -> None:
    await asyncio.to_thread(hub.server.kill)
    edge = start_edge(processes=2, ready=False)
    await both_listen(edge)
    assert edge.get("/readyz")[0] == 503
    edge.process.terminate()
    assert await asyncio.to_thread(edge.process.wait, 10) == 0


async def both_listen(edge: Edge) -> None:
    async def listen() -> bool:
        return edge.listeners() == 2

    await eventually(listen, 30)


async def test_a_drain_ends_streams_in_peace_and_takes_nothing_new(
    start_edge: StartEdge, worker: ScriptedWorker
) -> None:
    edge = start_edge()
    async with client(edge) as api:
        asking = asyncio.create_task(api.chat.completions.create(**STREAM))
        job = await worker.take()
        await job.send(job.accepted(), job.head(), *job.chunks(sse("a")))
        stream = await asking
        assert (await anext(stream)).choices[0].delta.content == "a"
        edge.process.send_signal(signal.SIGTERM)

        async def refuses() -> bool:
            try:
                socket.create_connection(("127.0.0.1", edge.port), 1).close()
            except ConnectionRefusedError:
                return True
            return False

        await eventually(refuses)
        await job.send(*job.chunks(sse("b"), DONE, first=3), job.end(5))
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["b"]
    assert await asyncio.to_thread(edge.process.wait, 10) == 0


async def test_the_log_and_the_metrics_hold_no_prompt_and_no_answer(
    start_edge: StartEdge, worker: ScriptedWorker, http: aiohttp.ClientSession
) -> None:
    edge = start_edge()
    for body in (CHAT, STREAM):
        asking = asyncio.create_task(post(http, edge, body))
        await (await worker.take()).answer(whole("ANSWER-7c1"))
        await asking
    await post(http, edge, CHAT | {"messages": "PLANTED-9f3"})
    await logged(edge, '"action":"finished"', 2)
    everything = edge.log() + edge.get("/metrics")[1].decode()
    assert "PLANTED-9f3" not in everything
    assert "ANSWER-7c1" not in everything
    assert edge.key not in everything


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("port = ", "not valid TOML"),
        ("prot = 1\nsecret_file = 'x'", "prot"),
        ("secret_file = 'missing'", "cannot be read"),
    ],
)
async def test_a_bad_configuration_is_told_in_one_sentence(
    tmp_path: Any, text: str, reason: str
) -> None:
    import sys

    config = tmp_path / "edge.toml"
    config.write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.edge.main", "--config", str(config),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, told = await process.communicate()
    assert process.returncode == 78
    assert reason in told.decode()
    assert "Traceback" not in told.decode()
