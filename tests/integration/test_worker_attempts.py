"""Second attempts are the edge's: what a worker does where it has, had or gets a request again."""

import asyncio
from typing import Any

import msgspec

from headrace.protocol import codec, names, subjects
from headrace.protocol.control import WINDOW_BYTES, Cancel, Credit, Gone, Resume
from headrace.protocol.errors import Code
from headrace.protocol.frames import Accepted, Chunk, End, Fail
from headrace.protocol.requests import ATTEMPTS
from headrace.protocol.state import WorkerPhase
from loadtests.words import expected_text
from tests.support.worker_kit import MODEL, SIM, Answer, Stand

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
LONG = CHAT | {"max_tokens": 100_000}
PACED = {"kind": "command", "command": (*SIM, "--delay-ms", "20")}
SECOND = ATTEMPTS + 1


async def redeliver(stand: Stand, answer: Answer) -> None:
    """Bring the same message once more, as the queue does when it hears nothing."""
    data = codec.encode(answer.request)
    number = f"{answer.request.id} {len(answer.frames)}"
    await stand.edge.queue.publish(MODEL, "normal", stand.edge.id, data, id=number, ttl_seconds=60)


def attempts(answer: Answer) -> list[int]:
    """The numbers of the attempts that were accepted."""
    return [frame.attempt for frame in answer.frames if isinstance(frame, Accepted)]


# What has ended


async def test_what_has_ended_is_said_again(stand: Stand) -> None:
    """Its last frame may be what was lost, and the edge may have asked somebody else already."""
    await stand.worker()
    answer = await stand.edge.ask(CHAT)
    await answer.ended()
    before = list(answer.frames)
    await redeliver(stand, answer)
    await answer.frame(End, 2)
    await stand.edge.emptied()
    assert answer.frames == before * 2
    await stand.edge.again(answer.request)
    await answer.frame(End, 3)
    assert answer.frames == before * 3
    assert await stand.edge.backlog() == 1, "an edge that hears it takes its new message back"
    await answer.frame(End, 4)
    assert attempts(answer)[-1] > SECOND, "this one does not, and wants another answer"
    await stand.edge.emptied()


async def test_what_has_failed_is_begun_anew_where_the_edge_says_so(stand: Stand) -> None:
    await stand.worker(engine=PACED)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 200})
    accepted = await answer.frame(Accepted)
    await stand.edge.control(accepted.worker, Cancel(answer.request.id, 1))
    await answer.frame(Fail)
    await redeliver(stand, answer)  # the queue has not heard of it
    await answer.frame(Fail, 2)
    await stand.edge.emptied()
    assert attempts(answer) == [1, 1]
    await stand.edge.again(answer.request)
    await answer.frame(End)
    assert attempts(answer) == [1, 1, SECOND]
    await stand.edge.emptied()


async def test_what_is_not_kept_any_more_is_begun_anew(stand: Stand) -> None:
    await stand.worker(limits={"replay_seconds": 0.1})
    answer = await stand.edge.ask(CHAT)
    await answer.ended()
    for _ in range(2):  # with each it looks
        await stand.edge.phase(WorkerPhase.READY)
    await redeliver(stand, answer)
    await answer.frame(End, 2)
    assert attempts(answer) == [1, 1]


# What runs


async def test_an_edge_that_asks_anew_hears_what_it_has_missed(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 300})
    await answer.frame(Chunk, 5)
    sent = len(answer.frames)
    await stand.edge.again(answer.request)
    await answer.frame(Accepted, 2)
    assert answer.frames[0] in answer.frames[sent:]
    assert worker.engine_running() == 1
    await stand.edge.queue.delete(stand.edge.newest)  # it hears us again
    await answer.frame(End)
    await stand.edge.emptied()
    answer.sort()
    assert answer.text == expected_text(CHAT, 300)
    assert {frame.attempt for frame in answer.frames} == {1}


async def test_the_new_message_is_not_lost_with_the_old_attempt(stand: Stand) -> None:
    await stand.worker(engine=PACED)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 200})
    accepted = await answer.frame(Accepted)
    await answer.frame(Chunk, 5)
    await stand.edge.again(answer.request)
    await answer.frame(Accepted, 2)
    await stand.edge.control(accepted.worker, Cancel(answer.request.id, 1))
    end = await answer.frame(End)
    assert end.attempt > SECOND, "it was given back, and delivered once more"
    await stand.edge.emptied()


async def test_frames_that_are_lost_end_the_attempt(stand: Stand) -> None:
    worker = await stand.worker(limits={"replay_bytes": 2 * WINDOW_BYTES})
    answer = await stand.edge.ask(LONG)
    accepted = await answer.frame(Accepted)
    resume = Resume(answer.request.id, stand.edge.id, 9, 2)
    await stand.edge.control(accepted.worker, resume)
    other = await answer.frame(Fail)
    assert (other.attempt, other.seq, other.code) == (9, 2, Code.WORKER_LOST)
    await stand.edge.control(accepted.worker, Credit(answer.request.id, 1, 3 * WINDOW_BYTES))
    await settled(answer, 3 * WINDOW_BYTES)
    assert await stand.edge.backlog() == 1
    await stand.edge.control(accepted.worker, msgspec.structs.replace(resume, attempt=1))
    lost = await answer.frame(Fail, 2)
    assert (lost.attempt, lost.seq, lost.code) == (1, 2, Code.WORKER_LOST)
    await worker.engine_idle()
    await stand.edge.emptied()


# Cancels


async def test_a_cancel_is_for_one_attempt(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    request = msgspec.structs.replace(stand.edge.request(LONG), attempt=ATTEMPTS)
    answer = await stand.edge.send(request)
    accepted = await answer.frame(Accepted)
    await stand.edge.control(accepted.worker, Cancel(request.id, 1))
    old = await answer.frame(Fail)
    assert (old.attempt, old.code) == (1, Code.CANCELLED)
    await stand.edge.control(accepted.worker, Cancel(request.id, 2 * ATTEMPTS + 1))
    chunks = sum(isinstance(frame, Chunk) for frame in answer.frames)
    await answer.frame(Chunk, chunks + 5)
    assert worker.engine_running() == 1
    await stand.edge.control(accepted.worker, Cancel(request.id, SECOND))
    fail = await answer.frame(Fail, 2)
    assert (fail.attempt, fail.code) == (SECOND, Code.CANCELLED)
    await worker.engine_idle()
    await stand.edge.control(accepted.worker, Cancel(request.id))
    assert (await answer.frame(Fail, 3)).attempt == SECOND, "it has ended, and that is said"
    await stand.edge.emptied()


async def test_what_all_workers_are_told_is_for_the_one_that_has_it(stand: Stand) -> None:
    workers = [await stand.worker(engine=PACED) for _ in range(2)]
    async with asyncio.timeout(20):
        ready: set[str] = set()
        while len(ready) < 2:
            ready.add((await stand.edge.phase(WorkerPhase.READY)).worker)
    answer = await stand.edge.ask(LONG)
    await answer.frame(Chunk, 3)
    await stand.edge.control_all(Resume(answer.request.id, stand.edge.id, 1, 0))
    await answer.frame(Accepted, 2)
    unknown = stand.edge.expect(stand.edge.request(CHAT))
    await stand.edge.control_all(Resume(unknown.request.id, stand.edge.id, 1, 0))
    await stand.edge.control_all(Cancel(unknown.request.id))
    await stand.edge.control_all(Cancel(answer.request.id))
    fail = await answer.frame(Fail)
    assert (fail.attempt, fail.code) == (1, Code.CANCELLED)
    for worker in workers:
        await worker.engine_idle()
    await stand.edge.emptied()
    assert unknown.frames == []
    assert sum(isinstance(frame, Fail) for frame in answer.frames) == 1


# Credit


def size(answer: Answer) -> int:
    return sum(len(frame.data) for frame in answer.frames if isinstance(frame, Chunk))


async def settled(answer: Answer, least: int = WINDOW_BYTES) -> int:
    """The bytes that have come when nothing more does; at `least` so many must."""
    async with asyncio.timeout(60):
        seen = -1
        while size(answer) != seen or seen < least:
            seen = size(answer)
            await asyncio.sleep(0.5)
    return seen


async def test_a_stream_goes_as_far_as_its_client_reads(stand: Stand) -> None:
    worker = await stand.worker()
    tokens = 20_000
    answer = await stand.edge.ask(CHAT | {"max_tokens": tokens})
    accepted = await answer.frame(Accepted)
    slack = 512 * 1024
    limit = WINDOW_BYTES
    assert await settled(answer) < limit + slack
    for number, more in ((7, 99 * limit), (1, limit // 2), (1, 2 * limit)):
        await stand.edge.control(accepted.worker, Credit(answer.request.id, number, more))
    assert await settled(answer, 2 * limit) < 2 * limit + slack
    # Nothing has been lost meanwhile, and a second stream is not held up.
    other = await stand.edge.ask(CHAT)
    assert isinstance(await other.ended(), End)
    await stand.edge.control(accepted.worker, Credit(answer.request.id, 1, 1 << 40))
    assert isinstance(await answer.ended(), End)
    assert answer.text == expected_text(CHAT, tokens)
    await worker.engine_idle()
    await stand.edge.emptied()


async def test_a_stream_that_waits_for_its_client_can_end(stand: Stand) -> None:
    worker = await stand.worker(drain_seconds=0.5)
    waiting = [await stand.edge.ask(LONG, seconds=seconds) for seconds in (60, 15, 60)]
    accepted = await waiting[0].frame(Accepted)
    for answer in waiting:
        await settled(answer)
    await stand.edge.control(accepted.worker, Cancel(waiting[0].request.id))
    assert (await waiting[0].frame(Fail)).code is Code.CANCELLED
    assert (await waiting[1].frame(Fail)).code is Code.DEADLINE_EXCEEDED
    worker.process.terminate()
    assert (await waiting[2].frame(Fail)).code is Code.WORKER_DRAINED
    assert await worker.ended() == 0


async def test_a_whole_answer_needs_no_credit(stand: Stand) -> None:
    await stand.worker()
    tokens = 130_000
    answer = await stand.edge.ask(
        CHAT | {"max_tokens": tokens, "return_token_ids": True}, stream=False
    )
    assert isinstance(await answer.ended(), End)
    assert size(answer) > WINDOW_BYTES


async def test_requests_of_an_edge_that_is_gone_are_stopped(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 5000})
    await answer.frame(Chunk)
    other = names.new_process_id()
    await stand.edge.bus.publish(subjects.CONTROL_ALL, codec.encode(Gone(other)))
    await answer.frame(Chunk, 20)
    assert worker.engine_running() == 1
    await stand.edge.bus.publish(subjects.CONTROL_ALL, codec.encode(Gone(stand.edge.id)))
    last = await answer.ended()
    assert isinstance(last, Fail)
    assert last.code is Code.CANCELLED
    await stand.edge.emptied()


async def test_an_attempt_that_waits_for_its_client_says_its_last_frame_again(stand: Stand) -> None:
    """An edge whose cancels were all lost hears of it, and tells it to stop."""
    await stand.worker()
    answer = await stand.edge.ask(LONG)
    await answer.frame(Accepted)
    await settled(answer)
    count = len(answer.frames)
    for _ in range(100):
        if len(answer.frames) > count:
            break
        await asyncio.sleep(0.1)
    assert answer.frames[count:] == [answer.frames[count - 1]]
