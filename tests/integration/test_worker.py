"""A worker between real servers and a pretended edge, in front of the simulated engine."""

import asyncio
import time
import urllib.request
from typing import Any

import pytest

from headrace.devcluster.loopback import free_port
from headrace.protocol import codec, names
from headrace.protocol.control import Cancel, Resume
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Head, Usage
from headrace.protocol.requests import VERSION
from headrace.runtime.nats.jetstream import ACK_WAIT_SECONDS
from loadtests.words import expected_text
from tests.support.worker_kit import MODEL, NAME, SIM, Stand

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
PACED = {"kind": "command", "command": (*SIM, "--delay-ms", "20")}


async def test_a_streamed_chat(stand: Stand) -> None:
    await stand.worker()
    answer = await stand.edge.ask(CHAT)
    end = await answer.ended()
    assert answer.text == expected_text(CHAT, 20)
    accepted, head, *chunks = answer.frames[:-1]
    assert accepted == Accepted(1, 0, accepted.worker, "c1")  # type: ignore[union-attr]
    assert isinstance(head, Head)
    assert (head.status, head.content_type.partition(";")[0]) == (200, "text/event-stream")
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    assert isinstance(end, End)
    assert end.usage == Usage(16, 20)
    assert 0 < end.timings.first_byte <= end.timings.total < 5
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in answer.body, "the client has not asked for it"
    assert NAME.encode() in answer.body
    await stand.edge.emptied()


async def test_usage_for_the_client_that_asks(stand: Stand) -> None:
    await stand.worker()
    answer = await stand.edge.ask(CHAT, stream_options={"include_usage": True})
    await answer.ended()
    assert answer.body.count(b'"usage":{') == 1


async def test_whole_answers_of_every_endpoint(stand: Stand) -> None:
    await stand.worker()
    for endpoint, body in (
        (Endpoint.CHAT, CHAT),
        (Endpoint.COMPLETIONS, {"prompt": "hello", "max_tokens": 3}),
        (Endpoint.EMBEDDINGS, {"input": ["a", "b"]}),
    ):
        answer = await stand.edge.ask(body, endpoint=endpoint, stream=False)
        end = await answer.ended()
        assert isinstance(end, End)
        head = answer.frames[1]
        assert isinstance(head, Head)
        assert (head.status, head.content_type) == (200, "application/json")
        assert answer.body.startswith(b"{")
        assert end.usage.prompt_tokens > 0
    await stand.edge.emptied()


async def test_a_cancelled_stream_frees_the_engine_and_the_queue(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 100_000})
    accepted = await answer.frame(Accepted)
    await answer.frame(Chunk, 3)
    assert worker.engine_running() == 1
    await stand.edge.control(accepted.worker, Cancel(answer.request.id))
    await worker.engine_idle()
    fail = await answer.ended()
    assert isinstance(fail, Fail)
    assert (fail.code, fail.retryable) == (Code.CANCELLED, False)
    await stand.edge.emptied()


async def test_no_more_at_once_than_there_are_slots(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED, slots=3)
    answers = [await stand.edge.ask(CHAT) for _ in range(14)]
    most = 0
    while not all(answer.frames and isinstance(answer.frames[-1], End) for answer in answers):
        most = max(most, worker.engine_running())
        await asyncio.sleep(0.01)
    assert most == 3
    assert all(answer.text == expected_text(CHAT, 20) for answer in answers)
    await stand.edge.emptied()


async def test_a_held_request_can_be_cancelled(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED, slots=1)
    first = await stand.edge.ask(CHAT | {"max_tokens": 100_000})
    accepted = await first.frame(Accepted)
    # The standing pulls of the other lanes bring one each that finds no slot.
    held = [await stand.edge.ask(CHAT, lane=lane) for lane in ("high", "low")]
    for answer in (*held, first):
        await stand.edge.control(accepted.worker, Cancel(answer.request.id))
        assert (await answer.frame(Fail)).code is Code.CANCELLED
    await worker.engine_idle()
    await stand.edge.emptied()
    assert [type(frame) for answer in held for frame in answer.frames] == [Fail, Fail]
    last = await stand.edge.ask(CHAT)
    assert isinstance(await last.ended(), End)


async def test_frames_are_sent_again_on_request(stand: Stand) -> None:
    await stand.worker(engine=PACED)
    answer = await stand.edge.ask(CHAT)
    accepted = await answer.frame(Accepted)
    await answer.ended()
    before = list(answer.frames)
    resume = Resume(answer.request.id, stand.edge.id, 1, 3)
    await stand.edge.control(accepted.worker, resume)
    await answer.until(lambda frames: len(frames) == 2 * len(before) - 3)
    assert answer.frames[len(before) :] == before[3:]


async def test_to_resume_what_is_unknown_is_answered(stand: Stand) -> None:
    await stand.worker()
    answer = await stand.edge.ask(CHAT)
    accepted = await answer.frame(Accepted)
    await answer.ended()
    frames = len(answer.frames)
    resume = Resume(answer.request.id, stand.edge.id, 7, 5)
    await stand.edge.control(accepted.worker, resume)
    await answer.until(lambda all_: len(all_) > frames)
    fail = answer.frames[-1]
    assert isinstance(fail, Fail)
    assert (fail.attempt, fail.seq, fail.code, fail.retryable) == (7, 5, Code.WORKER_LOST, True)


async def test_a_request_that_comes_twice_runs_once(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 200})
    await answer.frame(Chunk)
    data = codec.encode(answer.request)
    await stand.edge.queue.publish(MODEL, "normal", stand.edge.id, data, id="again", ttl_seconds=60)
    await answer.frame(Chunk, 10)
    assert worker.engine_running() == 1
    assert isinstance(await answer.ended(), End)
    assert answer.text == expected_text(CHAT, 200)
    await stand.edge.emptied()


async def test_a_long_request_stays_with_its_worker(stand: Stand) -> None:
    await stand.worker(engine=PACED)
    tokens = int((ACK_WAIT_SECONDS + 3) / 0.02)
    answer = await stand.edge.ask(CHAT | {"max_tokens": tokens})
    began = time.monotonic()
    assert isinstance(await answer.ended(60), End)
    assert time.monotonic() - began > ACK_WAIT_SECONDS
    assert answer.text == expected_text(CHAT, tokens)
    assert {frame.attempt for frame in answer.frames} == {1}


async def test_what_cannot_be_read_is_refused_and_hurts_nobody(stand: Stand) -> None:
    await stand.worker()
    edge = stand.edge
    await edge.queue.publish(MODEL, "high", edge.id, b"\xc1garbage", id="1", ttl_seconds=60)
    request = edge.request(CHAT)
    later = edge.expect(request)
    fields = [VERSION + 1, request.id, request.edge, {"what": "comes later"}]
    await edge.queue.publish(MODEL, "high", edge.id, edge.raw(fields), id="2", ttl_seconds=60)
    fail = await later.ended()
    assert isinstance(fail, Fail)
    assert (fail.code, fail.retryable, fail.seq) == (Code.UNSUPPORTED_VERSION, False, 0)
    assert isinstance(await (await edge.ask(CHAT)).ended(), End)
    await edge.emptied()


async def test_a_body_that_is_no_object_is_refused(stand: Stand) -> None:
    await stand.worker()
    fail = await (await stand.edge.ask(b"[1, 2]")).ended()
    assert isinstance(fail, Fail)
    assert (fail.code, fail.retryable) == (Code.INVALID_JSON, False)
    await stand.edge.emptied()


async def test_deadlines(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    late = await stand.edge.ask(CHAT, seconds=-1.0)
    long = await stand.edge.ask(CHAT | {"max_tokens": 100_000}, seconds=3.0)
    await long.frame(Accepted)
    fail = await long.ended()
    assert isinstance(fail, Fail)
    assert (fail.code, fail.retryable) == (Code.DEADLINE_EXCEEDED, False)
    await worker.engine_idle()
    await stand.edge.emptied()
    assert late.frames == [], "its client has been told long ago"


async def test_lanes_are_served_by_weight(stand: Stand) -> None:
    # All wait before the worker comes.
    answers = {
        lane: [await stand.edge.ask(CHAT | {"max_tokens": 4}, lane=lane) for _ in range(26)]
        for lane in names.LANES
    }
    await stand.worker(slots=1, engine=PACED)
    order = []
    for lane, all_ in answers.items():
        for answer in all_:
            await answer.ended(60)
            order.append((answer.times[0], lane))
    served = [lane for _, lane in sorted(order)]
    # Of the first 26 about 23 are high and 3 normal; standing pulls and looks add a few.
    first = served[:26]
    assert first.count("high") > first.count("normal") > first.count("low") >= 1


async def test_metrics_tell_what_happened(stand: Stand) -> None:
    port = free_port()
    await stand.worker(metrics_port=port)
    await (await stand.edge.ask(CHAT)).ended()
    await stand.edge.emptied()

    def page() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            data: bytes = response.read()
            return data.decode()

    text = await asyncio.to_thread(page)
    who = 'cluster="c1",model="m1"'
    for line in (
        f'headrace_worker_requests_total{{{who},outcome="ok"}} 1.0',
        f"headrace_worker_completion_tokens_total{{{who}}} 20.0",
        f"headrace_worker_engine_up{{{who}}} 1.0",
        f"headrace_worker_slots{{{who}}} 4.0",
        f"headrace_worker_first_byte_seconds_count{{{who}}} 1.0",
    ):
        assert line in text


async def test_a_worker_waits_for_the_queue_to_be_made(stand: Stand) -> None:
    """Consumers are made by the edge, perhaps long after the worker came."""
    worker = await stand.worker(model="other")
    edge = stand.edge
    request = edge.request(CHAT, model="other")
    answer = edge.expect(request)
    await edge.queue.publish(  # nobody may pull it yet
        names.Slug("other"), "low", edge.id, codec.encode(request), id=request.id, ttl_seconds=60
    )
    await edge.queue.ensure_consumers(names.Slug("other"))
    assert isinstance(await answer.ended(), End), worker.log()


async def test_containers_or_not_the_path_is_the_same(
    nats: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with Stand.around(nats, tmp_path_factory.mktemp("nats")) as stand:
        await stand.worker()
        answer = await stand.edge.ask(CHAT)
        assert isinstance(await answer.ended(), End)
        assert answer.text == expected_text(CHAT, 20)
