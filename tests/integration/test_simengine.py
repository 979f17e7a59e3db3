"""The simulated engine over its sockets: with the real client, and with its faults."""

import asyncio
import base64
import json
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from loadtests.sim.process import Running, running
from loadtests.words import expected_text, expected_vector
from tests.support.edge_kit import eventually
from tests.support.engine_session import session

MODEL = "sim"
MESSAGES: Any = [{"role": "user", "content": "hello"}]
BODY: dict[str, Any] = {"model": MODEL, "messages": MESSAGES}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, guard_module: Any) -> Iterator[Running]:
    socket = tmp_path_factory.mktemp("sim") / "e.sock"
    with running("--uds", str(socket), "--port", "0", "--slots", "4") as engine:
        guard_module.adopt(engine.process.pid)
        yield engine


def client(engine: Running) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{engine.addresses[-1]}/v1", api_key="none", max_retries=0)


async def status(http: aiohttp.ClientSession, method: str, path: str, body: str = "") -> int:
    async with http.request(method, path, data=body or None) as response:
        return response.status


async def gauge(http: aiohttp.ClientSession, name: str) -> int:
    async with http.get("/metrics") as response:
        page = await response.text()
    found = re.search(rf"^vllm:{name}{{.*}} (\d+)\.0$", page, re.MULTILINE)
    assert found is not None
    return int(found[1])


async def until(http: aiohttp.ClientSession, **gauges: int) -> float:
    """Seconds until the gauges have these values."""
    began = time.monotonic()
    async with asyncio.timeout(30):
        for name, value in gauges.items():
            while await gauge(http, f"num_requests_{name}") != value:  # noqa: ASYNC110  # it is asked
                await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_the_openai_client_reads_it(engine: Running) -> None:
    async with client(engine) as openai_client:
        chat = openai_client.chat.completions
        whole = await chat.create(model=MODEL, messages=MESSAGES, max_tokens=5)
        stream = await chat.create(
            model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        legacy = await openai_client.completions.create(model=MODEL, prompt="p", max_tokens=2)
        models = [model.id async for model in openai_client.models.list()]
    assert whole.choices[0].message.content == expected_text(BODY, 5)
    assert (whole.choices[0].finish_reason, whole.usage and whole.usage.completion_tokens) == (
        "length",
        5,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected_text(BODY, 30)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 30
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert legacy.choices[0].text == expected_text({"prompt": "p"}, 2)
    assert models == [MODEL]


async def test_embeddings_as_the_openai_client_asks_for_them(engine: Running) -> None:
    async with client(engine) as openai_client:
        both = await openai_client.embeddings.create(model=MODEL, input=["a", "b"])
    assert [row.embedding for row in both.data] == [expected_vector(x, 384) for x in "ab"]
    async with session(engine.address) as http:
        body = {"model": MODEL, "input": [1, 2], "encoding_format": "base64"}
        async with http.post("/v1/embeddings", json=body) as response:
            data = (await response.json())["data"]
    assert list(struct.unpack("<384f", base64.b64decode(data[0]["embedding"]))) == expected_vector(
        [1, 2], 384
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/health", "", 200),
        ("GET", "/nothing", "", 404),
        ("GET", "/v1/chat/completions", "", 405),
        ("POST", "/v1/chat/completions", "{", 400),
        ("POST", "/v1/chat/completions", '{"model": "other", "messages": []}', 404),
        ("POST", "/v1/chat/completions", '{"model": "sim"}', 400),
        ("POST", "/v1/embeddings", '{"model": "sim"}', 400),
    ],
)
async def test_statuses(engine: Running, method: str, path: str, body: str, expected: int) -> None:
    async with session(engine.address) as http:
        assert await status(http, method, path, body) == expected


async def test_a_slow_reader_loses_nothing(engine: Running) -> None:
    asked = {**BODY, "stream": True, "max_tokens": 20_000}
    async with (
        session(engine.address) as http,
        http.post("/v1/chat/completions", json=asked) as response,
    ):
        await asyncio.sleep(0.3)
        text = await response.text()
    contents = re.findall(r'"content":"([^"]*)"', text)
    assert "".join(contents) == expected_text(BODY, 20_000)
    assert text.endswith("data: [DONE]\n\n")


async def raw(engine: Running, *messages: bytes, last: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(engine.address.removeprefix("unix:"))
    try:
        for message in messages:
            writer.write(message)
        received = b""
        async with asyncio.timeout(30):
            while not received.endswith(last):
                data = await reader.read(65536)
                assert data, received
                received += data
        return received
    finally:
        writer.close()


def post(body: dict[str, Any], headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{headers}content-length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def test_pipelined_requests_are_answered_in_order(engine: Running) -> None:
    bodies = [
        {"messages": [{"role": "user", "content": str(n)}], "max_tokens": 3} for n in range(3)
    ]
    received = await raw(
        engine, b"".join(map(post, bodies)) + b"GET /health HTTP/1.1\r\n\r\n", last=b": 0\r\n\r\n"
    )
    places = [received.index(expected_text(body, 3).encode()) for body in bodies]
    assert places == sorted(places)


async def test_one_that_asks_before_it_sends_is_told_to_go_on(engine: Running) -> None:
    message = post({**BODY, "stream": True, "max_tokens": 1}, "expect: 100-continue\r\n")
    received = await raw(engine, message, last=b"0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_while_it_loads_everything_fails(tmp_path: Path) -> None:
    with running("--uds", str(tmp_path / "e.sock"), "--load-seconds", "3") as engine:
        async with session(engine.address) as http:
            for path in ("/health", "/v1/models"):
                assert await status(http, "GET", path) == 503
            assert await status(http, "POST", "/v1/chat/completions") == 503

            async def has_loaded() -> bool:
                return await status(http, "GET", "/health") == 200

            await eventually(has_loaded)


def test_a_silent_loader_does_not_even_listen(tmp_path: Path) -> None:
    began = time.monotonic()
    with running("--uds", str(tmp_path / "e.sock"), "--load-seconds", "0.6", "--load-silent"):
        assert time.monotonic() - began > 0.6


async def stream_into(received: bytearray, http: aiohttp.ClientSession) -> None:
    body = {**BODY, "stream": True}
    async with http.post("/v1/chat/completions", json=body) as response:
        async for piece in response.content.iter_any():
            received += piece


async def test_it_dies_after_its_tokens(tmp_path: Path) -> None:
    received = bytearray()
    with running("--uds", str(tmp_path / "e.sock"), "--die-after-tokens", "7") as engine:
        async with session(engine.address) as http:
            with pytest.raises(aiohttp.ClientError):
                await stream_into(received, http)
        assert engine.process.wait(20) == -9
    assert received.count(b'"delta":{"content"') == 7


async def test_it_fails_as_told(tmp_path: Path) -> None:
    with running("--uds", str(tmp_path / "e.sock"), "--status", "500") as engine:
        async with session(engine.address) as http:
            assert await status(http, "GET", "/health") == 200
            async with http.post("/v1/chat/completions", json=BODY) as response:
                assert response.status == 500
                assert (await response.json())["error"]["code"] == 500


async def test_it_hangs_as_told(tmp_path: Path) -> None:
    with running("--uds", str(tmp_path / "e.sock"), "--hang") as engine:
        async with session(engine.address) as http:
            assert await status(http, "GET", "/health") == 200
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream_into(bytearray(), http), 0.3)


async def test_tokens_come_at_their_pace(tmp_path: Path) -> None:
    with running("--uds", str(tmp_path / "e.sock"), "--delay-ms", "50", "--tokens", "30") as engine:
        async with session(engine.address) as http:
            began = time.monotonic()
            async with http.post("/v1/chat/completions", json={**BODY, "stream": True}) as response:
                await response.content.readuntil(b'"delta":{"content"')
                first = time.monotonic() - began
                await response.read()
            total = time.monotonic() - began
    assert first < total / 2
    assert 1.2 < total < 10
