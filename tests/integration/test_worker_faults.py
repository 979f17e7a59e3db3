"""What goes wrong around a worker, and what those who wait and those who operate get to know."""

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

import pytest

from headrace.cli.demo.processes import descendants
from headrace.protocol import codec, subjects
from headrace.protocol.control import Cancel, Credit
from headrace.protocol.errors import Code
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame, Head
from headrace.protocol.requests import ATTEMPTS
from headrace.protocol.state import WorkerPhase
from headrace.runtime.nats.bus import Message
from loadtests.words import expected_text
from tests.support.processes import alive
from tests.support.worker_kit import MODEL, ODD, SIM, Answer, Stand, WorkerProcess

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
LONG = CHAT | {"max_tokens": 100_000}
PACED = {"kind": "command", "command": (*SIM, "--delay-ms", "20")}
ODDLY = {"kind": "command", "command": ODD}
PLANTED = "planted-7d1c9e"


async def gone(pids: list[int], seconds: float = 20.0) -> None:
    """Wait until none of the processes lives."""
    async with asyncio.timeout(seconds):
        while any(alive(pid) for pid in pids):  # noqa: ASYNC110  # they are not our children
            await asyncio.sleep(0.02)


async def odd(stand: Stand, what: str, *, stream: bool = True, **more: Any) -> Any:
    return await stand.edge.ask({"odd": what} | more, stream=stream)


async def taker(answer: Answer, workers: list[WorkerProcess]) -> WorkerProcess:
    """Which of the workers has begun it."""
    accepted = await answer.frame(Accepted)
    return next(worker for worker in workers if worker.id == accepted.worker)


async def failed(answer: Any) -> Fail:
    fail = await answer.ended()
    assert isinstance(fail, Fail)
    return fail


# The engine


async def test_the_engine_is_killed_mid_stream(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    answers = [await stand.edge.ask(LONG) for _ in range(3)]
    for answer in answers:
        await answer.frame(Chunk, 3)
    gone_state = asyncio.create_task(stand.edge.phase(WorkerPhase.GONE))
    for pid in worker.engine_pids():
        os.kill(pid, signal.SIGKILL)
    for answer in answers:
        fail = await failed(answer)
        assert (fail.code, fail.retryable) == (Code.ENGINE_FAILED, True)
        assert answer.body  # frames are whole and without a gap up to the failure
    assert await worker.ended() == 1
    last = worker.log().splitlines()[-1]
    assert last.startswith("headrace: the engine died while serving (killed by SIGKILL")
    assert "killed by SIGKILL" in (await gone_state).reason
    assert worker.has_left_nothing()


async def test_another_worker_gets_the_request_of_a_dead_engine(stand: Stand) -> None:
    """The edge sends it at once, and the worker that does not know yet leaves it alone."""
    workers = [await stand.worker(engine=PACED) for _ in range(2)]
    answer = await stand.edge.ask(CHAT | {"max_tokens": 200})
    first = await taker(answer, workers)
    await answer.frame(Chunk)
    for pid in first.engine_pids():
        os.kill(pid, signal.SIGKILL)
    await failed(answer)
    await stand.edge.emptied()
    await stand.edge.again(answer.request)
    end = await answer.frame(End)
    assert end.attempt > ATTEMPTS
    assert sum(isinstance(frame, Fail) for frame in answer.frames) == 1
    await stand.edge.emptied()


async def test_an_engine_that_hangs_is_given_up(stand: Stand) -> None:
    probes = {"probe_seconds": 0.2, "probe_timeout_seconds": 0.5, "probe_failures": 2}
    worker = await stand.worker(engine=PACED | probes)
    answer = await stand.edge.ask(LONG)
    await answer.frame(Chunk)
    pids = worker.engine_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    fail = await failed(answer)
    assert (fail.code, fail.retryable) == (Code.ENGINE_FAILED, True)
    assert await worker.ended() == 1
    assert "hangs" in worker.log().splitlines()[-1]
    await gone(pids)


async def test_a_stream_that_ends_too_early_is_a_failure(stand: Stand) -> None:
    await stand.worker(engine=ODDLY)
    for what in ("no_end", "cut"):
        answer = await odd(stand, what)
        fail = await failed(answer)
        assert (fail.code, fail.retryable) == (Code.ENGINE_FAILED, True)
        assert answer.body.count(b"data:") >= 1
        assert not answer.body.endswith(b"cho"), "an event was torn"
        await stand.edge.control((await answer.frame(Accepted)).worker, Cancel(answer.request.id))


async def test_torn_bytes_become_whole_events(stand: Stand) -> None:
    await stand.worker(engine=ODDLY)
    answer = await odd(stand, "torn")
    assert isinstance(await answer.ended(), End)
    assert answer.text == "ä€😀"
    for frame in answer.frames:
        if isinstance(frame, Chunk):
            assert frame.data.endswith(b"\r\n\r\n")


async def test_the_last_event_and_the_end_are_one_message(stand: Stand) -> None:
    """Between two a client could leave with all of its answer, and nobody would know its usage."""
    messages: list[list[Frame]] = []

    def on_message(message: Message) -> None:
        frames = codec.decode_frames(message.subject, message.data)
        messages.append([frame for _, frame in frames])

    await stand.edge.bus.subscribe(subjects.responses(stand.edge.id), on_message)
    await stand.worker(engine=ODDLY)
    for _ in range(3):
        answer = await odd(stand, "lingers")
        assert isinstance(await answer.ended(), End)
        *_, chunk, end = messages[-1]
        assert isinstance(chunk, Chunk)
        # A busy machine reads the event before together with it.
        assert chunk.data.endswith(b"data: [DONE]\n\n")
        assert isinstance(end, End)
        assert end.timings.total < 2.8, "the rest of the response is not awaited"


async def test_the_engines_own_error_is_passed_on(stand: Stand) -> None:
    await stand.worker(engine=ODDLY)
    answer = await odd(stand, "refuse")
    assert isinstance(await answer.ended(), End)
    head = answer.frames[1]
    assert isinstance(head, Head)
    assert head.status == 400
    assert b"too long" in answer.body
    await stand.edge.emptied()


@pytest.mark.parametrize("stream", [True, False])
async def test_answers_have_a_bound(stand: Stand, stream: bool) -> None:
    limits = {"answer_bytes": 3_000_000, "event_bytes": 3_000_000}
    await stand.worker(engine=ODDLY, limits=limits)
    fail = await failed(await odd(stand, "large", stream=stream, bytes=3_500_000))
    assert (fail.code, fail.retryable) == (Code.RESPONSE_TOO_LARGE, False)
    answer = await odd(stand, "large", stream=stream, bytes=2_000_000)
    accepted = await answer.frame(Accepted)
    await stand.edge.control(accepted.worker, Credit(answer.request.id, 1, 3_000_000))
    assert isinstance(await answer.ended(), End)
    assert len(answer.body) > 2_000_000
    await stand.edge.emptied()


async def test_a_prompt_is_in_no_log(stand: Stand) -> None:
    """Not even where the engine writes it into its own."""
    worker = await stand.worker(engine=ODDLY, log_level="debug")
    for what in ("echo", "refuse", "no_end"):
        answer = await odd(stand, what, stream=False, prompt=PLANTED)
        await answer.ended()
    os.kill(worker.engine_pids()[0], signal.SIGKILL)
    assert await worker.ended() == 1
    assert PLANTED not in worker.log()
    assert worker.log().count("attempt_ended") >= 3


# The worker


async def test_a_killed_worker_takes_its_engine_along(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    answer = await stand.edge.ask(LONG)
    await answer.frame(Chunk)
    pids = worker.engine_pids()
    worker.process.kill()
    await worker.process.wait()
    await gone(pids)
    async with asyncio.timeout(20):
        while not worker.has_left_nothing():  # noqa: ASYNC110  # the reaper's last act
            await asyncio.sleep(0.02)


async def test_a_killed_workers_request_goes_to_another(stand: Stand) -> None:
    workers = [await stand.worker(engine=PACED) for _ in range(2)]
    answer = await stand.edge.ask(CHAT | {"max_tokens": 300})
    first = await taker(answer, workers)
    await answer.frame(Chunk)
    first.process.kill()
    again = await answer.frame(Accepted, 2, seconds=40)
    assert again.attempt == 2
    end = await answer.frame(End)
    assert end.attempt == 2
    await stand.edge.emptied()


# The drain


async def drained(worker: WorkerProcess, seconds: float = 30.0) -> None:
    assert await worker.ended(seconds) == 0, worker.log()
    assert worker.has_left_nothing()


async def test_a_drain_lets_what_runs_end(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED)
    pids = worker.engine_pids()
    answer = await stand.edge.ask(CHAT | {"max_tokens": 100})
    await answer.frame(Chunk)
    draining = asyncio.create_task(stand.edge.phase(WorkerPhase.DRAINING))
    worker.process.terminate()
    assert (await draining).running <= 1
    later = await stand.edge.ask(CHAT)
    assert isinstance(await answer.ended(), End)
    assert answer.text == expected_text(CHAT, 100)
    await drained(worker)
    assert later.frames == []
    assert await stand.edge.backlog() == 1, "what it did not begin waits for another worker"
    await gone(pids)
    await stand.worker()
    assert isinstance(await later.ended(), End)


async def test_a_drain_gives_back_what_it_has_not_begun(stand: Stand) -> None:
    first = await stand.worker(engine=PACED, slots=1)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 300})
    await answer.frame(Chunk)
    held = [await stand.edge.ask(CHAT, lane=lane) for lane in ("high", "low")]
    coming = asyncio.create_task(stand.worker(engine=PACED))
    draining = asyncio.create_task(stand.edge.phase(WorkerPhase.DRAINING))
    first.process.terminate()
    await draining
    second = await coming
    for each in held:
        assert isinstance(await each.ended(5), End)
        assert (await taker(each, [first, second])) is second
    assert isinstance(await answer.ended(), End)
    await drained(first)


async def test_a_drain_has_an_end(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED, drain_seconds=0.5)
    answer = await stand.edge.ask(LONG)
    await answer.frame(Chunk)
    worker.process.terminate()
    fail = await failed(answer)
    assert (fail.code, fail.retryable) == (Code.WORKER_DRAINED, True)
    await drained(worker)


async def test_a_second_sigterm_lets_what_is_nearly_done_end(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED, drain_seconds=60)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 300})
    await answer.frame(Chunk)
    draining = asyncio.create_task(stand.edge.phase(WorkerPhase.DRAINING))
    worker.process.terminate()
    await draining
    worker.process.terminate()
    assert isinstance(await answer.ended(), End)
    assert answer.text == expected_text(CHAT, 300)
    await drained(worker)
    assert "stopping_sooner" in worker.log()


async def test_a_person_who_insists_ends_the_drain_at_once(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED, drain_seconds=60)
    pids = worker.engine_pids()
    answer = await stand.edge.ask(LONG)
    await answer.frame(Chunk)
    draining = asyncio.create_task(stand.edge.phase(WorkerPhase.DRAINING))
    worker.process.terminate()
    await draining
    began = time.monotonic()
    worker.process.send_signal(signal.SIGINT)
    fail = await failed(answer)
    assert (fail.code, fail.retryable) == (Code.WORKER_DRAINED, True)
    await worker.ended()
    assert time.monotonic() - began < 3
    await gone(pids)
    assert worker.has_left_nothing()


@pytest.mark.parametrize("insist", [False, True])
async def test_what_is_begun_is_given_up_for_the_edge_to_send_again(
    stand: Stand, insist: bool
) -> None:
    """Whether the drain's time is over or somebody insists: a failure, and nothing in the queue."""
    drain = 60 if insist else 0.5
    workers = [await stand.worker(engine=ODDLY, drain_seconds=drain) for _ in range(2)]
    answer = await odd(stand, "slow", stream=False, seconds=6)
    first = await taker(answer, workers)
    draining = asyncio.create_task(stand.edge.phase(WorkerPhase.DRAINING))
    first.process.terminate()
    await draining
    if insist:
        first.process.send_signal(signal.SIGINT)
    fail = await answer.frame(Fail)
    assert (fail.code, fail.retryable) == (Code.WORKER_DRAINED, True)
    await stand.edge.emptied()
    await stand.edge.again(answer.request)
    assert (await answer.frame(End)).attempt > ATTEMPTS
    await first.ended()
    await stand.edge.emptied()


@pytest.mark.parametrize("command", [SIM, ODD])
async def test_a_signal_for_the_whole_job_step_cuts_no_answer_off(
    stand: Stand, command: tuple[str, ...]
) -> None:
    """Slurm sends SIGTERM to the worker, its reaper, the engine, and whatever that has started."""
    pace = ("--delay-ms", "20") if command is SIM else ()
    worker = await stand.worker(engine={"kind": "command", "command": (*command, *pace)})
    pids = descendants(worker.pid)
    if command is SIM:
        answer = await stand.edge.ask(CHAT | {"max_tokens": 100})
        await answer.frame(Chunk)
    else:
        answer = await odd(stand, "slow", stream=False, seconds=2)
        await answer.frame(Accepted)
    for pid in (*reversed(pids), worker.pid):
        os.kill(pid, signal.SIGTERM)
    assert isinstance(await answer.ended(), End)
    if command is SIM:
        assert answer.text == expected_text(CHAT, 100)
    await drained(worker)
    await gone(pids)
    await stand.edge.emptied()


async def test_the_end_of_the_walltime_drains_in_time(stand: Stand) -> None:
    worker = await stand.worker(engine=PACED, drain_seconds=1, ends_at=time.time() + 26)
    state = await stand.edge.phase(WorkerPhase.DRAINING, 20)
    assert state.ends_at > time.time() + 10
    await drained(worker)


# The servers


async def test_the_hub_restarts(stand: Stand) -> None:
    worker = await stand.worker()
    assert isinstance(await (await stand.edge.ask(CHAT)).ended(), End)
    stand.pair.hub.kill()
    stand.pair.hub.start()
    await stand.edge.make_queue()
    answer = await stand.edge.ask(CHAT)
    assert isinstance(await answer.ended(), End), worker.log()
    assert {frame.attempt for frame in answer.frames} == {1}, "it was first given out to nobody"


async def test_the_leaf_restarts_mid_stream(stand: Stand) -> None:
    """Frames of the time without a link are not lost: they wait, or are sent again."""
    worker = await stand.worker(engine=PACED)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 200})
    accepted = await answer.frame(Accepted)
    await answer.frame(Chunk, 5)
    stand.pair.leaf.kill()
    stand.pair.leaf.start()
    with contextlib.suppress(TimeoutError):
        await answer.ended(15)
    await stand.edge.heal(answer, accepted.worker)
    assert answer.text == expected_text(CHAT, 200), worker.log()
    again = await stand.edge.ask(CHAT)
    assert isinstance(await again.ended(), End)
    await stand.edge.emptied()


async def test_a_worker_outlives_a_time_without_servers(stand: Stand) -> None:
    worker = await stand.worker()
    stand.pair.leaf.kill()
    stand.pair.hub.kill()
    await asyncio.sleep(1)
    assert worker.process.returncode is None
    stand.pair.leaf.start()
    stand.pair.hub.start()
    await stand.edge.make_queue()
    answer = await stand.edge.ask(CHAT)
    assert isinstance(await answer.ended(30), End), worker.log()
    assert answer.request.model == MODEL
