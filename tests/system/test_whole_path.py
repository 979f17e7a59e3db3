"""The whole path on real parts and a real model: what a user's client sees, and what is left."""

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from tests.support.processes import alive
from tests.support.running_demo import Demo, running

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.timeout(300)]

MARKER = "PLANTED" + os.urandom(6).hex()
QUESTION = f"Repeat this word: {MARKER}"
LEFT_SECONDS = 2.0
"""Invariant 3: by then the engine has stopped working for a client that left."""

BUSY = {
    "llamacpp": re.compile(rb"^llamacpp:requests_processing (\d+)", re.MULTILINE),
    "vllm": re.compile(rb"^vllm:num_requests_running\{.*\} (\d+)", re.MULTILINE),
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("llamacpp", marks=pytest.mark.llamacpp),
        pytest.param("vllm", marks=pytest.mark.vllm),
    ],
)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def demo(
    engine: str, tmp_path_factory: pytest.TempPathFactory, guard_module: Any
) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp(engine), "--engine", engine) as demo:
        yield demo


@pytest.fixture(scope="module")
def info(demo: Demo) -> dict[str, Any]:
    return demo.info()


def client(info: dict[str, Any], **options: Any) -> openai.AsyncOpenAI:
    options = {"api_key": info["api_key"], "max_retries": 0, "timeout": 120} | options
    return openai.AsyncOpenAI(base_url=info["base_url"], **options)


def question(info: dict[str, Any], **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": info["model"], "messages": messages, "max_tokens": 24} | more


async def test_a_request_sent_before_the_model_is_loaded_waits_and_is_answered(
    demo: Demo, engine: str
) -> None:
    """Must be the first: with vLLM the demo is ready long before the model is."""
    info = demo.info()
    if engine == "llamacpp":
        demo.kill("worker-1")  # it loads in a second: a new one has to load before it can answer
    headers = {"authorization": f"Bearer {info['api_key']}"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=200)) as http:
        url = f"{info['base_url']}/chat/completions"
        async with http.post(url, json=question(info, stream=True), headers=headers) as answer:
            assert answer.status == 200
            lines = [line async for line in answer.content]
    assert lines[-2] == b"data: [DONE]\n"
    assert all(line == b"\n" or line.startswith((b": ", b"data: ")) for line in lines)
    if engine == "vllm":
        assert lines[0].startswith(b": queued ")


async def test_the_openai_client(info: dict[str, Any]) -> None:
    async with client(info) as api:
        whole = await api.chat.completions.create(**question(info))
        assert whole.choices[0].message.content
        assert whole.usage is not None
        assert 0 < whole.usage.completion_tokens <= 24

        stream = await api.chat.completions.create(
            **question(info, stream=True, stream_options={"include_usage": True})
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert chunks[-1].usage is not None
        assert chunks[-1].choices == []

        without = await api.chat.completions.create(**question(info, stream=True))
        assert all(chunk.choices for chunk in [chunk async for chunk in without])

        legacy = await api.completions.create(model=info["model"], prompt="One, two,", max_tokens=5)
        assert legacy.choices[0].text

        assert [model.id async for model in api.models.list()] == [info["model"]]
        assert (await api.models.retrieve(info["model"])).id == info["model"]


async def test_the_openai_client_hears_what_is_wrong(info: dict[str, Any]) -> None:
    async with client(info) as api:
        # An edge that has just begun to listen says "come again" for what it does not know yet.
        async with asyncio.timeout(40):
            while True:
                with pytest.raises(openai.APIStatusError) as missing:
                    await api.chat.completions.create(**question(info, model="nope"))
                if missing.value.status_code != 503:
                    break
                await asyncio.sleep(0.5)
        assert isinstance(missing.value, openai.NotFoundError)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.APIStatusError) as large:
            await api.chat.completions.create(
                **question(info, messages=[{"role": "user", "content": "x" * 5_000_000}])
            )
        assert large.value.status_code == 413
        long = [{"role": "user", "content": "word " * 60_000}]
        for more in ({"stream": True}, {}):
            with pytest.raises(openai.BadRequestError):
                await api.chat.completions.create(**question(info, messages=long, **more))
    async with client(info, api_key="hr_wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
    async with aiohttp.ClientSession() as http:
        headers = {
            "authorization": f"Bearer {info['api_key']}",
            "content-type": "application/json",
        }
        url = f"{info['base_url']}/chat/completions"
        async with http.post(url, data=b'{"model": ', headers=headers) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "invalid_json"


async def busy(info: dict[str, Any], engine: str) -> int:
    """How many requests the engine works on, by its own count."""
    socket = info["engines"]["worker-1"].removeprefix("unix:")
    connector = aiohttp.UnixConnector(socket)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.get("http://engine/metrics") as answer,
    ):
        found = BUSY[engine].search(await answer.read())
    assert found is not None
    return int(float(found[1]))


async def test_the_engine_stops_when_the_client_leaves(demo: Demo, engine: str) -> None:
    info = demo.info()
    async with client(info) as api:
        stream = await api.chat.completions.create(
            **question(info, stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
        )
        await anext(stream)
        await anext(stream)
        assert await busy(info, engine) == 1
        await stream.close()
    left = time.monotonic()
    while await busy(info, engine):
        assert time.monotonic() - left < LEFT_SECONDS, "the engine still works"
        await asyncio.sleep(0.02)


async def test_no_prompt_and_no_answer_is_at_rest(demo: Demo) -> None:
    """Invariant 4: after all of the above the marker is in no file, log or metric."""
    info = demo.info()
    async with client(info) as api:
        await api.chat.completions.create(**question(info))
    needle = MARKER.encode()
    seen = 0
    folders = [demo.folder.parent, *open_folders(info["pids"].values())]
    for folder in folders:
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                if path.is_file():
                    assert needle not in path.read_bytes(), path
                    seen += 1
    assert seen > 10
    metrics = info["base_url"].removesuffix("/v1") + "/metrics"
    async with aiohttp.ClientSession() as http, http.get(metrics) as answer:
        assert needle not in await answer.read()


def open_folders(pids: Any) -> set[Path]:
    """Where the demo's processes have files open for writing, outside its own folder."""
    folders = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = link.readlink()
            except OSError:
                continue
            if target.is_file() and str(target).startswith(("/tmp/", "/var/", "/dev/shm/")):
                folders.add(target.parent)
    return {folder for folder in folders if folder not in {Path("/tmp"), Path("/dev/shm")}}


async def test_the_demo_ends_without_a_trace(engine: str, demo: Demo, record_property: Any) -> None:
    """Must be the last."""
    pids = demo.info()["pids"]
    assert {"hub", "leaf", "sshd", "bridge", "edge", "worker-1"} <= set(pids)
    assert json.loads((demo.folder / "info.json").read_text())["model"]
    assert (demo.folder / "info.json").stat().st_mode & 0o777 == 0o600
    demo.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(demo.process.wait, 30) == 0
    assert not {name for name, pid in pids.items() if alive(pid)}
