"""The worker on vLLM, once: it takes half a minute to load."""

import asyncio
import os
import signal
from typing import Any

import pytest

from headrace.protocol.control import Cancel
from headrace.protocol.frames import Accepted, Chunk, End
from tests.parts import VLLM_MODEL, vllm
from tests.processes import alive
from tests.worker_kit import NAME, Stand, descendants

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count from one to twenty."}],
    "max_tokens": 24,
    "temperature": 0,
}


async def test_vllm_from_start_to_a_killed_worker(stand: Stand) -> None:
    engine = {
        "kind": "vllm",
        "python": str(vllm()),
        "model": str(VLLM_MODEL),
        "args": ("--dtype", "bfloat16", "--max-model-len", "2048", "--enforce-eager"),
        "env": {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"},
    }
    worker = await stand.worker(engine=engine, slots=4, seconds=240)

    streamed = await stand.edge.ask(CHAT)
    end = await streamed.ended(60)
    assert isinstance(end, End)
    assert 10 < end.usage.completion_tokens <= 24
    assert sum(isinstance(frame, Chunk) for frame in streamed.frames) > 5, "it was not streamed"
    assert b'"usage":{' not in streamed.body
    whole = await stand.edge.ask(CHAT, stream=False)
    assert isinstance(await whole.ended(60), End)
    assert whole.answer["choices"][0]["message"]["content"] == streamed.text
    assert whole.answer["model"] == NAME

    refused = await stand.edge.ask(CHAT | {"max_tokens": 100_000}, stream=True)
    assert isinstance(await refused.ended(60), End)
    assert refused.frames[1].status == 400  # type: ignore[union-attr]

    long = await stand.edge.ask(CHAT | {"max_tokens": 1500, "ignore_eos": True})
    accepted = await long.frame(Accepted)
    await long.frame(Chunk, 5, seconds=60)
    assert worker.engine_running() == 1
    await stand.edge.control(accepted.worker, Cancel(long.request.id))
    await worker.engine_idle(2.0)
    await stand.edge.emptied()

    # Slurm signals the whole job step; the worker, which would drain, is left out here.
    pids = worker.engine_pids()
    assert len(pids) >= 2, "vLLM's engine core is a process of its own"
    last = await stand.edge.ask(CHAT | {"max_tokens": 100, "ignore_eos": True})
    await last.frame(Chunk, 3, seconds=60)
    for pid in descendants(worker.pid):
        os.kill(pid, signal.SIGTERM)
    assert isinstance(await last.ended(60), End)

    worker.process.kill()
    async with asyncio.timeout(10):
        while any(alive(pid) for pid in pids) or not worker.has_left_nothing():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
