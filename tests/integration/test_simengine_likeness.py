"""The fake against the real thing: the simulated engine speaks as llama.cpp and vLLM do.

The same requests go to both, and what clients rely on must be the same: statuses, media types, the
sequence of events, their keys, the kinds of their values, and the values that clients branch on.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from loadtests.processes import ended
from loadtests.sim.process import Running, running
from tests.support.engine_session import session
from tests.support.parts import VLLM_MODEL, gguf, vllm

MODEL = "sim"
MESSAGES: Any = [{"role": "user", "content": "hello"}]

# What clients and Headrace read. Engines add keys of their own, which come and go with versions.
READ = {
    "id", "object", "created", "model", "choices", "index", "delta", "role", "content", "text",
    "finish_reason", "message", "usage", "prompt_tokens", "completion_tokens", "total_tokens",
}  # fmt: skip

Said = list[tuple[str, Any]]


def shape(value: Any) -> Any:
    """JSON with values replaced by the names of their types, and only the keys that are read."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items()) if key in READ}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


def exactly(value: dict[str, Any]) -> list[Any]:
    """The shape, and of the values those that clients branch on."""
    reasons = [choice.get("finish_reason") for choice in value.get("choices", [])]
    return [(shape(value), value.get("object"), reasons)]


def facts(value: dict[str, Any]) -> list[Any]:
    """What a client learns from an answer or event, one by one; engines spread it differently."""
    assert {"id", "object", "created", "model", "choices"} <= value.keys()
    learned = [value["object"]]
    for choice in value["choices"]:
        said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        learned += [f"role {said['role']}"] if "role" in said else []
        learned += ["text"] if said.get("content") else []
        learned += [f"end: {choice['finish_reason']}"] if choice["finish_reason"] else []
    if value.get("usage"):
        assert value["usage"]["completion_tokens"] == 4
        learned.append(sorted(READ & value["usage"].keys()))
    return learned


async def answers(
    http: aiohttp.ClientSession, model: str, told: Callable[[dict[str, Any]], list[Any]]
) -> Said:
    """What an engine says to the same requests, as far as clients rely on it."""
    said: Said = []
    limits: dict[str, Any] = {"model": model, "max_tokens": 4, "temperature": 0}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    bodies = {
        "/v1/chat/completions": {"messages": MESSAGES, **limits},
        "/v1/completions": {"prompt": "Once upon a time", **limits},
    }
    for path, body in bodies.items():
        async with http.post(path, json=body) as response:
            said.append((path, (response.status, response.content_type)))
            said += [(path, each) for each in told(await response.json())]
        async with http.post(path, json={**body, **options}) as response:
            said.append((path, (response.status, response.content_type)))
            stream = await response.text()
        assert stream.endswith("\n\n")
        for event in stream.removesuffix("\n\n").split("\n\n"):
            data = event.removeprefix("data: ")
            said += [
                (path, each) for each in (told(json.loads(data)) if data != "[DONE]" else [data])
            ]
    async with http.get("/v1/models") as response:
        said += [("models", row["id"] == model) for row in (await response.json())["data"]]
    async with http.get("/health") as response:
        said.append(("health", response.status))
    return said


@contextmanager
def real(socket: Path, argv: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    log = socket.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env={**os.environ, **env}, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        ended(process, 15)


async def until_ready(process: subprocess.Popen[bytes], socket: Path, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while process.poll() is None:
            try:
                async with session(f"unix:{socket}") as http, http.get("/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    pytest.fail(socket.with_suffix(".log").read_text()[-2000:])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Running]:
    with running("--uds", str(tmp_path / "sim.sock")) as engine:
        yield engine


async def beside(
    engine: Running, socket: Path, told: Callable[[dict[str, Any]], list[Any]]
) -> tuple[Said, Said]:
    """What the real engine on `socket` says, and what the fake says."""
    async with session(f"unix:{socket}") as http:
        truth = await answers(http, "real", told)
    async with session(engine.address) as http:
        return truth, await answers(http, MODEL, told)


@pytest.mark.llamacpp
async def test_it_speaks_like_llamacpp(engine: Running, tmp_path: Path) -> None:
    socket = tmp_path / "real.sock"
    argv = [
        *(sys.executable, "-P", "-m", "headrace.worker.engine.llamacpp_server", "--slots", "1"),
        *("--uds", str(socket), "--model", str(gguf()), "--served-model-name", "real"),
    ]
    with real(socket, argv, {}) as process:
        await until_ready(process, socket, 90)
        truth, said = await beside(engine, socket, facts)
    # llama.cpp tells the end in an event of its own, and may put several tokens into one event.
    assert list(dict.fromkeys(map(repr, said))) == list(dict.fromkeys(map(repr, truth)))


@pytest.mark.vllm
@pytest.mark.timeout(300)
async def test_it_speaks_like_vllm(engine: Running, tmp_path: Path) -> None:
    socket = tmp_path / "real.sock"
    argv = [
        *(str(vllm()), "-m", "vllm.entrypoints.openai.api_server", "--uds", str(socket)),
        *("--model", str(VLLM_MODEL), "--served-model-name", "real", "--dtype", "bfloat16"),
        *("--max-model-len", "2048", "--enforce-eager"),
    ]
    names = ("TMPDIR", "VLLM_CACHE_ROOT", "VLLM_RPC_BASE_PATH", "TORCHINDUCTOR_CACHE_DIR")
    env = {name: str(tmp_path) for name in names} | {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    with real(socket, argv, env) as process:
        await until_ready(process, socket, 240)
        truth, said = await beside(engine, socket, exactly)
    assert said == truth
