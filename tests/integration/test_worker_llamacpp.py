"""The worker on llama.cpp with a real small model."""

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from headrace.cli.demo.processes import descendants
from headrace.protocol.control import Cancel
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code
from headrace.protocol.frames import Accepted, Chunk, End, Fail
from tests.support.engine_session import session
from tests.support.parts import gguf
from tests.support.processes import alive
from tests.support.resume_kit import chunks, cuts, go_on, goes_on, partial_of, refused, whole
from tests.support.worker_kit import NAME, Stand, WorkerProcess

pytestmark = pytest.mark.llamacpp

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count from one to twenty."}],
    "max_tokens": 24,
    "temperature": 0,
    "seed": 1,
}
LONG = CHAT | {"max_tokens": 1500, "ignore_eos": True}
COMPLETION: dict[str, Any] = {"prompt": "One, two,", "temperature": 0, "seed": 1}

EMOJIS = [{"role": "user", "content": "Reply with emojis: 😀 🎉 and é"}]


async def engine_says(worker: WorkerProcess, path: str, body: dict[str, Any]) -> Any:
    """What the engine itself answers."""
    async with session(f"unix:{worker.socket()}") as http, http.post(path, json=body) as answer:
        assert answer.status == 200
        return await answer.json()


@pytest.fixture
async def worker(stand: Stand) -> WorkerProcess:
    engine = {"kind": "llamacpp", "model": str(gguf())}
    return await stand.worker(engine=engine, slots=2, seconds=90)


async def test_streamed_and_whole_say_the_same(stand: Stand, worker: WorkerProcess) -> None:
    streamed = await stand.edge.ask(CHAT)
    end = await streamed.ended(60)
    assert isinstance(end, End)
    assert end.usage.completion_tokens == 24
    assert end.usage.prompt_tokens > 10
    whole = await stand.edge.ask(CHAT, stream=False)
    assert isinstance(await whole.ended(60), End)
    assert whole.answer["choices"][0]["message"]["content"] == streamed.text
    assert whole.answer["model"] == NAME
    assert sum(isinstance(frame, Chunk) for frame in streamed.frames) > 1, "it was not streamed"
    completion = await stand.edge.ask(COMPLETION | {"max_tokens": 5}, endpoint=Endpoint.COMPLETIONS)
    assert isinstance(await completion.ended(60), End)
    assert completion.text
    await stand.edge.emptied()


async def test_a_cancelled_stream_frees_the_slot_within_2_s(
    stand: Stand, worker: WorkerProcess
) -> None:
    answer = await stand.edge.ask(LONG)
    accepted = await answer.frame(Accepted)
    await answer.frame(Chunk, 5, seconds=60)
    assert worker.engine_running() == 1
    await stand.edge.control(accepted.worker, Cancel(answer.request.id))
    await worker.engine_idle(2.0)
    await stand.edge.emptied()


async def test_a_killed_engine(stand: Stand, worker: WorkerProcess) -> None:
    answer = await stand.edge.ask(LONG)
    await answer.frame(Chunk, 3, seconds=60)
    (pid,) = worker.engine_pids()
    os.kill(pid, signal.SIGKILL)
    fail = await answer.ended()
    assert isinstance(fail, Fail)
    assert (fail.code, fail.retryable) == (Code.ENGINE_FAILED, True)
    assert await worker.ended() == 1
    assert "killed by SIGKILL" in worker.log().splitlines()[-1]


async def test_a_killed_worker(stand: Stand, worker: WorkerProcess) -> None:
    answer = await stand.edge.ask(LONG)
    await answer.frame(Chunk, 3, seconds=60)
    pids = worker.engine_pids()
    worker.process.kill()
    async with asyncio.timeout(20):
        while any(alive(pid) for pid in pids):  # noqa: ASYNC110  # it is no child of ours
            await asyncio.sleep(0.02)


async def test_a_drain(stand: Stand, worker: WorkerProcess) -> None:
    answer = await stand.edge.ask(CHAT)
    await answer.frame(Chunk, seconds=60)
    worker.process.terminate()
    assert isinstance(await answer.ended(60), End)
    assert await worker.ended() == 0
    assert worker.has_left_nothing()


async def test_a_signal_for_the_whole_job_step(stand: Stand, worker: WorkerProcess) -> None:
    whole = await stand.edge.ask(CHAT | {"max_tokens": 100})
    assert isinstance(await whole.ended(60), End)
    answer = await stand.edge.ask(CHAT | {"max_tokens": 100})
    await answer.frame(Chunk, seconds=60)
    pids = descendants(worker.pid)
    for pid in (*reversed(pids), worker.pid):
        os.kill(pid, signal.SIGTERM)
    assert isinstance(await answer.ended(60), End)
    assert answer.text == whole.text
    began = time.monotonic()
    assert await worker.ended() == 0
    assert time.monotonic() - began < 5, "it was not asked but killed"
    assert not any(alive(pid) for pid in pids)
    assert worker.has_left_nothing()


@pytest.mark.timeout(300)
async def test_answers_go_on_where_another_worker_stopped(
    stand: Stand, worker: WorkerProcess
) -> None:
    """By the text: llama.cpp takes the last message of the assistant's for the beginning."""
    begun = [*CHAT["messages"], {"role": "assistant", "content": "One, two,"}]
    for body, endpoint in (
        (CHAT, Endpoint.CHAT),
        (CHAT | {"messages": begun, "max_tokens": 8}, Endpoint.CHAT),
        (COMPLETION | {"max_tokens": 12}, Endpoint.COMPLETIONS),
    ):
        answer = await whole(stand, body, endpoint, pieces=2)
        for cut in cuts(answer, step=5):
            await goes_on(stand, answer, cut)
    answer = await whole(stand, CHAT | {"messages": EMOJIS}, pieces=2)
    for cut in cuts(answer, step=2):
        partial = partial_of(chunks(answer)[:cut])
        rest = await go_on(stand, answer, partial)
        # Some characters are several tokens, and only their number is not known exactly.
        assert (partial.text + rest.text).startswith(answer.text)
    # By chance it could be over after a word, and what has ended needs no continuation.
    long = COMPLETION | {"max_tokens": 60, "ignore_eos": True}
    answer = await whole(stand, long, Endpoint.COMPLETIONS)
    fail = await refused(stand, answer, prompt=[1, 2, 3])
    assert fail.code is Code.NOT_CONTINUED
    await stand.edge.emptied()


async def test_a_model_that_is_none(stand: Stand) -> None:
    engine = {"kind": "llamacpp", "model": __file__}
    worker = await stand.worker(ready=False, engine=engine)
    assert await worker.ended(60) == 1
    assert "engine.model is not a model file" in worker.log()


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.CHAT, LONG),
        (Endpoint.COMPLETIONS, COMPLETION | {"max_tokens": 1500, "ignore_eos": True}),
        # Each of these characters is several tokens, and one event.
        (Endpoint.CHAT, LONG | {"messages": EMOJIS}),
    ],
)
async def test_what_is_broken_off_is_accounted_to_the_token(
    stand: Stand, worker: WorkerProcess, endpoint: Endpoint, body: dict[str, Any]
) -> None:
    """The engine itself says how many tokens the text has that it had sent.

    Only of a text without chance: what is sampled may be cut into tokens as no tokeniser would.
    """
    answer = await stand.edge.ask(body, endpoint=endpoint)
    accepted = await answer.frame(Accepted)
    await answer.frame(Chunk, 12, seconds=60)
    await stand.edge.control(accepted.worker, Cancel(answer.request.id))
    fail = await answer.ended()
    assert isinstance(fail, Fail)
    assert fail.code is Code.CANCELLED
    told = await engine_says(worker, "/tokenize", {"content": answer.text})
    assert fail.usage.completion_tokens == len(told["tokens"])
    asked = body.get("prompt")
    if asked is None:
        asked = (await engine_says(worker, "/apply-template", body))["prompt"]
    prompt = {"content": asked, "add_special": True, "parse_special": True}
    told = await engine_says(worker, "/tokenize", prompt)
    assert fail.usage.prompt_tokens == len(told["tokens"])
    assert b'"timings"' not in answer.body
