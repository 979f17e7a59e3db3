"""vLLM with a real small model as jobs of a real Slurm: from zero, many at once, and back."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.parts import VLLM_MODEL, VLLM_PYTHON
from tests.support.slurm_site import MODEL, eventually, running

pytestmark = [
    pytest.mark.anyio, pytest.mark.slurm, pytest.mark.openssh, pytest.mark.vllm,
    pytest.mark.timeout(400),
]  # fmt: skip

CLIENTS = 6


async def test_a_full_pass(tmp_path: Path, record_property: Any) -> None:
    with running(tmp_path / "farm") as farm:
        (place,) = farm.places.values()
        farm.serve(
            slots=4,
            drain_seconds=30.0,
            scale={"max": 1, "idle_seconds": 10.0, "load_seconds": 60.0},
            engine={
                "kind": "vllm",
                "command": (),
                "model": str(VLLM_MODEL),
                "python": str(VLLM_PYTHON),
                "args": ("--dtype", "bfloat16", "--max-model-len", "2048", "--enforce-eager"),
                "stop_seconds": 10.0,
            },
            env={"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"},
            job={"cpus_per_task": 2},
        )
        async with openai.AsyncOpenAI(
            base_url=farm.base_url, api_key=farm.keys[0], timeout=240, max_retries=0
        ) as client:
            texts = await asyncio.gather(*(ask(client, number) for number in range(CLIENTS)))
            assert all(texts)
            (worker,) = place.workers("ready")
            # Drained in the middle of an answer: that is finished, with another one there or not.
            going = asyncio.create_task(ask(client, 0, tokens=200))
            await eventually(lambda: place.workers("ready")[0].running, 30, farm)
            await place.client().drain([worker.job])
            assert await going
            # And the next request wakes it again.
            assert await ask(client, 1)
        await eventually(lambda: not place.workers(), 120, farm)
        loads = [each["seconds"] for each in place.worker_log() if each["action"] == "engine_ready"]
    record_property("told", f"vLLM as Slurm jobs: loaded in {loads} s, {CLIENTS} clients waited")


async def ask(client: openai.AsyncOpenAI, number: int, tokens: int = 20) -> str:
    """An answer, streamed and whole."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": f"Tell me a story about the number {number}."}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
    )
    text, finish = "", None
    async for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert finish in {"stop", "length"}
    return text
