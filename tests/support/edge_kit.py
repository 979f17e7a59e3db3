"""A real edge process on a real hub, and a worker that does exactly what a test says."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from headrace.devcluster.loopback import free_port
from headrace.gateway.policy import api_keys
from headrace.protocol import codec, names, subjects
from headrace.protocol.control import Control
from headrace.protocol.frames import Accepted, Chunk, End, Frame, Head, Timings, Usage
from headrace.protocol.names import LANES, ProcessId, RequestId, Slug
from headrace.protocol.requests import Request
from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.runtime.logging import setup
from headrace.runtime.nats.bus import Bus, BusOptions, Message
from headrace.runtime.nats.jetstream import ACK, JetStream, delivery_of
from loadtests.processes import ended
from tests.support.nats_kit import NatsServer, StartNats

MODEL = "Test-Model"
SLUG = Slug("test-model")
HUB_CONF = """
listen: 127.0.0.1:{port}
max_payload: 8MB
jetstream {{ domain: hub, store_dir: "{dir}", max_memory_store: 2GB }}
"""


def sse(text: str) -> bytes:
    """One chunk of a streamed chat answer, as an engine writes it."""
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def whole(text: str) -> bytes:
    """A whole chat answer, as an engine writes it."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
    }
    return json.dumps(answer).encode()


class Edge:
    """An edge that runs as a process of its own."""

    def __init__(
        self, folder: Path, port: int, key: str, process: "subprocess.Popen[bytes]"
    ) -> None:
        self.port = port
        self.key = key
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "edge.log"

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs to be let in."""
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json"}

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text()

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        request = urllib.request.Request(self.url + path, headers=self.headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def listeners(self) -> int:
        """How many processes take connections (state 0A of proc(5)'s net/tcp)."""
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return sum(
            fields[1].endswith(f":{self.port:04X}") and fields[3] == "0A" for fields in sockets
        )

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until it takes requests."""
        until(self._is_ready, seconds, self.log)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False


def until(true: Callable[[], bool], seconds: float, log: Callable[[], str] = str) -> None:
    """Wait until `true()`, or fail with `log()`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s\n{log()}"
        time.sleep(0.02)


async def eventually(true: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Wait until `await true()`, or fail."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)


NOTHING: Mapping[str, Any] = MappingProxyType({})

StartEdge = Callable[..., Edge]


class Hub:
    """A hub of the test's own."""

    def __init__(self, server: NatsServer, port: int) -> None:
        self.server = server
        self.port = port
        self.url = f"nats://127.0.0.1:{port}"


@pytest.fixture
def hub(nats_process: StartNats, tmp_path: Path) -> Hub:
    port = free_port()
    config = tmp_path / "hub.conf"
    config.write_text(HUB_CONF.format(port=port, dir=tmp_path / "jetstream"))
    return Hub(nats_process(config, port), port)


@pytest.fixture
def start_edge(hub: Hub, tmp_path: Path) -> Iterator[StartEdge]:
    with contextlib.ExitStack() as stack:

        def start(
            *,
            ready: bool = True,
            port_of_hub: int = 0,
            key_options: Mapping[str, Any] = MappingProxyType({}),
            **options: Any,
        ) -> Edge:
            port = free_port()
            secret, key = tmp_path / "api.secret", api_keys.mint()
            secret.unlink(missing_ok=True)
            digest = api_keys.digest(api_keys.create_secret(secret), key)
            key_lines = [f"{name} = {json.dumps(value)}" for name, value in key_options.items()]
            options = {"learn_seconds": 0} | options
            lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
            config = tmp_path / "edge.toml"
            config.write_text(
                "\n".join(
                    [
                        'secret_file = "api.secret"',
                        f"port = {port}",
                        *[line for line in lines if not line.startswith("queue ")],
                        f'[bus]\nurl = "nats://127.0.0.1:{port_of_hub or hub.port}"',
                        "[queue]",
                        *[f"{k} = {v}" for k, v in options.get("queue", {}).items()],
                        f'[[models]]\nname = "{MODEL}"',
                        'endpoints = ["chat", "completions", "embeddings"]',
                        f'[[keys]]\nid = "test"\ndigest = "{digest}"',
                        *key_lines,
                    ]
                )
            )
            argv = [sys.executable, "-m", "headrace.edge.main", "--config", str(config)]
            with (tmp_path / "edge.log").open("wb") as log:
                process = subprocess.Popen(argv, stdout=log, stderr=log)
            stack.callback(_end, process)
            edge = Edge(tmp_path, port, key, process)
            if ready:
                edge.wait_ready()
            return edge

        yield start


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        ended(process, 10)


class Job:
    """One delivered request, in the hands of the test."""

    def __init__(self, worker: "ScriptedWorker", message: Message) -> None:
        self.worker = worker
        self.message = message
        self.request: Request = codec.decode_request(message.data)
        self.delivery = delivery_of(message.reply)
        self.attempt = self.request.attempt + self.delivery.delivered
        self._ack = message.reply
        self._subject = subjects.response(ProcessId(self.request.edge), RequestId(self.request.id))

    async def send(self, *frames: Frame) -> None:
        """Publish frames as they are."""
        for frame in frames:
            await self.worker.bus.publish(self._subject, codec.encode(frame))

    def accepted(self) -> Frame:
        """The first frame: it goes on after what the client has, if the request says so."""
        partial = self.request.partial
        after = partial.after if partial is not None else 0
        return Accepted(self.attempt, 0, self.worker.id, "north", after)

    def head(self, status: int = 200) -> Frame:
        """The second."""
        media = "text/event-stream" if self.request.stream else "application/json"
        return Head(self.attempt, 1, status, media)

    def chunks(self, *data: bytes, first: int = 2) -> list[Frame]:
        """Chunks numbered from `first`."""
        return [Chunk(self.attempt, seq, part) for seq, part in enumerate(data, first)]

    def end(self, seq: int, tokens: int = 1) -> Frame:
        """The last frame."""
        return End(self.attempt, seq, Usage(1, tokens), Timings(0.1, 0.2))

    async def answer(self, *data: bytes, status: int = 200) -> None:
        """Do it all, and acknowledge."""
        frames = [self.accepted(), self.head(status), *self.chunks(*data)]
        await self.send(*frames, self.end(len(data) + 2))
        await self.ack()

    async def ack(self) -> None:
        """Take it out of the queue."""
        await self.worker.bus.publish(self._ack, ACK)


class ScriptedWorker:
    """A worker on the bus that only does what it is told."""

    def __init__(self, bus: Bus, id: ProcessId) -> None:
        self.bus = bus
        self.id = id
        self.jetstream = JetStream(bus)
        self.controls: asyncio.Queue[Control] = asyncio.Queue()
        self.broadcasts: asyncio.Queue[Control] = asyncio.Queue()
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._inbox = f"{subjects.worker_inbox(id)}.pull"

    async def start(self) -> None:
        """Subscribe."""
        await self.bus.subscribe(self._inbox, self._on_message)
        await self.bus.subscribe(
            subjects.control(self.id),
            lambda message: self.controls.put_nowait(codec.decode_control(message.data)),
        )
        await self.bus.subscribe(
            subjects.CONTROL_ALL,
            lambda message: self.broadcasts.put_nowait(codec.decode_control(message.data)),
        )
        await self.bus.flush()

    def _on_message(self, message: Message) -> None:
        if message.data:
            self._jobs.put_nowait(Job(self, message))

    async def beat(self, phase: WorkerPhase = WorkerPhase.READY) -> None:
        """One heartbeat."""
        state = WorkerState(1, "north", SLUG, self.id, phase, 8, 0)
        await self.bus.publish(subjects.state(Slug("north"), SLUG, self.id), codec.encode(state))
        await self.bus.flush()

    async def take(self, seconds: float = 20.0, model: Slug = SLUG) -> Job:
        """The next request of any lane of `model`."""
        async with asyncio.timeout(seconds):
            while self._jobs.empty():
                for lane in LANES:
                    self.jetstream.pull(model, lane, reply=self._inbox, batch=1, expires=0.0)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        return await self._jobs.get()
            return self._jobs.get_nowait()

    async def waiting(self) -> int:
        """How many requests the queue holds, given out or not."""
        infos = [await self.jetstream.consumer_info(SLUG, lane) for lane in LANES]
        return sum(info.num_pending + info.num_ack_pending for info in infos)


@pytest.fixture
async def worker(hub: Hub) -> AsyncIterator[ScriptedWorker]:
    id = names.new_process_id()
    bus = Bus(setup("test", "error"), name="scripted", inbox=subjects.worker_inbox(id))
    await bus.connect(BusOptions(url=hub.url))
    scripted = ScriptedWorker(bus, id)
    await scripted.start()
    yield scripted
    await bus.close()
