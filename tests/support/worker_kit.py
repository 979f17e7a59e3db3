"""A worker's surroundings: hub and leaf as in production, a pretended edge, worker processes.

The servers run on the shipped templates with their permissions, and with the link's user between
them; only the SSH connection is left out.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import string
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import msgspec
import nkeys
import pytest

from headrace.cli.demo.processes import children, descendants
from headrace.devcluster.loopback import free_ports
from headrace.protocol import codec, names, subjects
from headrace.protocol.control import Control, Resume
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.frames import Accepted, Chunk, End, Fail, Frame
from headrace.protocol.names import LANES, ProcessId, RequestId, Slug
from headrace.protocol.requests import ATTEMPTS, VERSION, Partial, Request
from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.runtime import logging
from headrace.runtime.nats.bus import Bus, BusError, BusOptions, Message
from headrace.runtime.nats.jetstream import JetStream, QueueLimits
from tests.support.nats_kit import NatsServer, StartNats
from tests.support.parts import ROOT, UnixHTTPConnection

MODEL = Slug("m1")
NAME = "Test/Model-1"
CLUSTER = Slug("c1")
ODD = (sys.executable, "-m", "tests.support.scripted_engine", "{socket}")
SIM = (sys.executable, "-m", "loadtests.simengine", "--uds", "{socket}", "--model", "{name}")
DENIED = (
    "INFO", "STREAM.>", "CONSUMER.CREATE.>", "CONSUMER.DURABLE.>", "CONSUMER.DELETE.>",
    "CONSUMER.LIST.>", "CONSUMER.NAMES.>", "CONSUMER.PAUSE.>", "DIRECT.>", "META.>", "SERVER.>",
    "ACCOUNT.>",
)  # fmt: skip


class Pair:
    """A hub and the leaf of a cluster that is linked to it; or the leaves of several."""

    def __init__(
        self, folder: Path, start: StartNats, clusters: tuple[str, ...] = (CLUSTER,)
    ) -> None:
        self._folder = folder
        hub, monitor, *ports = free_ports(2 + 2 * len(clusters))
        self.hub_url = f"nats://127.0.0.1:{hub}"
        self.leaf_urls: dict[str, str] = {}
        nkey = {f"{who}_nkey": self._key(who) for who in ("edge", "link", "worker", "scaler")}
        denied = ", ".join(f'"$JS.{d}API.{verb}"' for d in ("", "hub.") for verb in DENIED)
        link = (folder / "link.nk").read_text()
        leaves, remotes = [], ""
        for cluster, leaf, gate in zip(clusters, ports[::2], ports[1::2], strict=True):
            remotes += self._fill(
                "remote", cluster=cluster, link_port=gate, link_seed=link, denied_api=denied
            )
            run = folder / f"leaf-{cluster}"
            run.mkdir()
            leaf_conf = self._write(
                run / "leaf.conf", nkey, cluster=cluster, leaf_listen=f"127.0.0.1:{leaf}",
                gate_listen=f"127.0.0.1:{gate}", run_dir=run, monitor="",
            )  # fmt: skip
            self.leaf_urls[cluster] = f"nats://127.0.0.1:{leaf}"
            leaves.append(start(leaf_conf, leaf, gate))
        hub_conf = self._write(
            folder / "hub.conf", nkey, hub_listen=f"127.0.0.1:{hub}",
            hub_monitor=f"127.0.0.1:{monitor}", run_dir=folder, queue_memory=1 << 28,
            remotes=remotes, external="",
        )  # fmt: skip
        self.leaf: NatsServer = leaves[0]
        self.leaf_url = self.leaf_urls[clusters[0]]
        self.hub: NatsServer = start(hub_conf, hub)

    def key(self, who: str) -> str:
        """The file with the seed of `who`."""
        return str(self._folder / f"{who}.nk")

    def _key(self, who: str) -> str:
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        file = Path(self.key(who))
        file.write_bytes(seed)
        file.chmod(0o600)
        public: bytes = nkeys.from_seed(bytearray(seed)).public_key
        return public.decode()

    def _fill(self, name: str, **values: Any) -> str:
        template = (ROOT / f"infra/nats/{name}.conf").read_text()
        return string.Template(template).substitute(values)

    def _write(self, file: Path, nkey: dict[str, str], **values: Any) -> Path:
        file.write_text(self._fill(file.stem, **nkey, **values))
        file.chmod(0o600)
        return file


class Answer:
    """The frames of one request, as they come."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.frames: list[Frame] = []
        self.times: list[float] = []
        self._changed = asyncio.Event()

    def add(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.times.append(time.perf_counter())
        self._changed.set()

    async def until(self, true: Callable[[list[Frame]], bool], seconds: float = 20.0) -> None:
        """Wait until `true(frames)`."""
        async with asyncio.timeout(seconds):
            while not true(self.frames):
                self._changed.clear()
                await self._changed.wait()

    async def frame(self, kind: type[Any], count: int = 1, seconds: float = 20.0) -> Any:
        """The frame of a kind that comes as number `count`."""
        await self.until(lambda all_: sum(isinstance(f, kind) for f in all_) >= count, seconds)
        return [f for f in self.frames if isinstance(f, kind)][count - 1]

    async def ended(self, seconds: float = 20.0) -> End | Fail:
        """The last frame."""
        await self.until(lambda all_: bool(all_) and isinstance(all_[-1], End | Fail), seconds)
        last = self.frames[-1]
        assert isinstance(last, End | Fail)
        return last

    def sort(self) -> int | None:
        """Drop what came twice and sort the rest; the first seq that is missing, or None."""
        frames = {frame.seq: frame for frame in self.frames}
        self.frames[:] = [frames[seq] for seq in sorted(frames)]
        for seq, frame in enumerate(self.frames):
            if frame.seq != seq:
                return seq
        ended = bool(self.frames) and isinstance(self.frames[-1], End | Fail)
        return None if ended else len(self.frames)

    @property
    def body(self) -> bytes:
        """All bytes of the answer, after a check that frames are numbered without a gap."""
        assert [f.seq for f in self.frames] == list(range(len(self.frames)))
        assert len({f.attempt for f in self.frames}) == 1
        return b"".join(f.data for f in self.frames if isinstance(f, Chunk))

    @property
    def answer(self) -> Any:
        """A whole answer."""
        return msgspec.json.decode(self.body)

    @property
    def text(self) -> str:
        """The text of a streamed chat answer."""
        text = ""
        for line in self.body.decode().splitlines():
            if line.startswith("data: {"):
                for choice in msgspec.json.decode(line[6:])["choices"]:
                    text += choice.get("text") or choice.get("delta", {}).get("content") or ""
        return text


class Edge:
    """Does on the bus what an edge does."""

    def __init__(self, pair: Pair) -> None:
        self.id = names.new_process_id()
        self.bus = Bus(
            logging.setup("edge", "error"), name="edge", inbox=subjects.edge_inbox(self.id)
        )
        self.queue = JetStream(self.bus)
        self.newest = 0
        """The number in the stream of what was published anew last."""
        self._pair = pair
        self._answers: dict[str, Answer] = {}
        self.states: list[WorkerState] = []
        self._told = asyncio.Event()

    async def start(self) -> None:
        await self.bus.connect(BusOptions(self._pair.hub_url, self._pair.key("edge")))
        await self.bus.subscribe(subjects.STATES, self._on_state)
        await self.bus.subscribe(subjects.responses(self.id), self._on_frame)
        await self.make_queue()

    async def joined(self, seconds: float = 20.0) -> None:
        """Wait until we hear what is said at every leaf: the links come up after the servers.

        The frames of answers are what is tried, for we asked for the states before them.
        """
        for url in self._pair.leaf_urls.values():
            id = names.new_process_id()
            bus = Bus(logging.setup("edge", "error"), name="probe", inbox=subjects.worker_inbox(id))
            await bus.connect(BusOptions(url, self._pair.key("worker")))
            answer = self.expect(self.request())
            subject = subjects.response(self.id, RequestId(answer.request.id))
            async with asyncio.timeout(seconds):
                while not answer.frames:
                    bus.send(subject, codec.encode(Accepted(1, 0, id, CLUSTER)))
                    await asyncio.sleep(0.02)
            await bus.close()

    async def make_queue(self, seconds: float = 10.0) -> None:
        """Make the stream and its consumers, as soon as the hub is there."""
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(BusError):
                    await self.queue.ensure_queue(QueueLimits(max_bytes=1 << 27))
                    await self.queue.ensure_consumers(MODEL)
                    return
                await asyncio.sleep(0.05)

    async def heal(self, answer: Answer, worker: str, seconds: float = 10.0) -> None:
        """Ask for what is missing until all frames are there, and bring them in order."""
        async with asyncio.timeout(seconds):
            while (missing := answer.sort()) is not None:
                resume = Resume(answer.request.id, self.id, 1, missing)
                await self.control(worker, resume)
                with contextlib.suppress(TimeoutError):
                    seen = len(answer.frames)
                    await answer.until(lambda all_, seen=seen: len(all_) > seen, 1.0)  # type: ignore[misc]

    def request(
        self,
        body: Any = None,
        *,
        endpoint: Endpoint = Endpoint.CHAT,
        stream: bool = True,
        seconds: float = 60.0,
        model: str = MODEL,
        **more: Any,
    ) -> Request:
        """An envelope around a body, by default a short chat."""
        if body is None:
            body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        data = body if isinstance(body, bytes) else msgspec.json.encode(body | more)
        deadline = time.time() + seconds
        return Request(
            VERSION, names.new_request_id(), self.id, endpoint, model, stream, data, deadline
        )

    @staticmethod
    def raw(fields: Any) -> bytes:
        """A message with any fields at all."""
        return msgspec.msgpack.encode(fields)

    def expect(self, request: Request) -> Answer:
        """Take note of the frames of a request."""
        answer = self._answers[request.id] = Answer(request)
        return answer

    async def send(self, request: Request, lane: str = "normal") -> Answer:
        """Put a request into the queue."""
        answer = self.expect(request)
        data = codec.encode(request)
        await self.queue.publish(MODEL, lane, self.id, data, id=request.id, ttl_seconds=60)
        return answer

    async def ask(self, *args: Any, lane: str = "normal", **kwargs: Any) -> Answer:
        """Make a request and send it."""
        return await self.send(self.request(*args, **kwargs), lane)

    async def again(self, request: Request, partial: Partial | None = None) -> Request:
        """Publish a request anew, as the next message; its answer stays the same object."""
        request = msgspec.structs.replace(
            request, attempt=request.attempt + ATTEMPTS, partial=partial
        )
        data = codec.encode(request)
        ack = await self.queue.publish(
            MODEL, "high", self.id, data, id=f"{request.id}.{request.attempt}", ttl_seconds=60
        )
        self.newest = ack.seq
        return request

    async def control(self, worker: str, message: Control) -> None:
        """Tell the worker something."""
        await self.bus.publish(subjects.control(ProcessId(worker)), codec.encode(message))

    async def control_all(self, message: Control) -> None:
        """Tell all workers something."""
        await self.bus.publish(subjects.CONTROL_ALL, codec.encode(message))

    async def phase(
        self, phase: WorkerPhase, seconds: float = 60.0, *, but: Collection[str] = ()
    ) -> WorkerState:
        """The next heartbeat with this phase, of a worker that is not among `but`."""
        seen = len(self.states)
        async with asyncio.timeout(seconds):
            while True:
                for state in self.states[seen:]:
                    if state.phase is phase and state.worker not in but:
                        return state
                seen = len(self.states)
                self._told.clear()
                await self._told.wait()

    async def backlog(self) -> int:
        """What the queue holds, in work or not."""
        infos = [await self.queue.consumer_info(MODEL, lane) for lane in LANES]
        return sum(info.num_pending + info.num_ack_pending for info in infos)

    async def emptied(self, seconds: float = 5.0) -> None:
        """Wait until the queue holds nothing."""
        async with asyncio.timeout(seconds):
            while await self.backlog():  # noqa: ASYNC110  # a queue tells nobody when it is empty
                await asyncio.sleep(0.02)

    def _on_frame(self, message: Message) -> None:
        for request, frame in codec.decode_frames(message.subject, message.data):
            if request in self._answers:
                self._answers[request].add(frame)

    def _on_state(self, message: Message) -> None:
        self.states.append(codec.decode_state(message.data))
        self._told.set()


class WorkerProcess:
    """A worker as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, temp: Path) -> None:
        self.process = process
        self.temp = temp
        self.id = ""
        """Its name on the bus, once it has been ready."""
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def ended(self, seconds: float = 20.0) -> int:
        """Wait for its end: the exit code."""
        return await asyncio.wait_for(self.process.wait(), seconds)

    def socket(self) -> Path:
        """The engine's socket."""
        (found,) = self.temp.glob("headrace-*/engine.sock")
        return found

    def engine_pids(self) -> list[int]:
        """The processes of the engine: of the worker's descendants all but the reaper."""
        found = [pid for reaper, _ in children(self.pid) for pid in descendants(reaper)]
        assert found, "the engine does not run"
        return found

    def engine_running(self) -> int:
        """How many requests the engine itself says that it works on."""
        connection = UnixHTTPConnection(str(self.socket()), timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
        names_ = r"^(?:vllm:num_requests_running|llamacpp:requests_processing)\S* (\d+)"
        return sum(int(number) for number in re.findall(names_, page, re.MULTILINE))

    async def engine_idle(self, seconds: float = 2.0) -> None:
        """Wait until the engine works on nothing."""
        async with asyncio.timeout(seconds):
            while self.engine_running():  # noqa: ASYNC110  # it is asked
                await asyncio.sleep(0.02)

    def has_left_nothing(self) -> bool:
        """Whether the run directory is gone; processes are the business of the tests' guard."""
        return not list(self.temp.iterdir())


def toml(value: Any) -> str:
    """A value in TOML. But for tables, JSON's spelling is TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


class Stand:
    """Everything around the worker under test."""

    def __init__(
        self, pair: Pair, edge: Edge, folder: Path, stack: contextlib.AsyncExitStack
    ) -> None:
        self.pair = pair
        self.edge = edge
        self._folder = folder
        self._stack = stack
        self._workers = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def around(
        cls, start: StartNats, folder: Path, clusters: tuple[str, ...] = (CLUSTER,)
    ) -> AsyncIterator["Stand"]:
        """Servers and edge, for as long as the context lasts, and then an end to all."""
        pair = Pair(folder, start, clusters)
        async with contextlib.AsyncExitStack() as stack:
            edge = Edge(pair)
            await edge.start()
            stack.push_async_callback(edge.bus.close)
            await edge.joined()
            yield cls(pair, edge, folder, stack)

    async def worker(
        self, *, ready: bool = True, seconds: float = 30.0, **options: Any
    ) -> WorkerProcess:
        """Start a worker; by default on the simulated engine, and wait until it is ready."""
        self._workers += 1
        others = {state.worker for state in self.edge.states}
        config = {
            "cluster": CLUSTER,
            "model": MODEL,
            "name": NAME,
            "slots": 4,
            "drain_seconds": 10,
            "bus": {"url": self.pair.leaf_url, "nkey_file": self.pair.key("worker")},
            "engine": {"kind": "command", "command": SIM},
        } | options
        file = self._folder / f"worker-{self._workers}.toml"
        file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in config.items()))
        # Short: the engine's socket lies below.
        temp = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hw", dir="/tmp")))
        log = self._folder / f"worker-{self._workers}.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headrace.worker.main", "--config", str(file),
                stdout=out, stderr=out, cwd=ROOT, env=os.environ | {"TMPDIR": str(temp)},
            )  # fmt: skip
        worker = WorkerProcess(process, log, temp)
        self._stack.push_async_callback(_end, worker)
        if ready:
            waiting = asyncio.create_task(self.edge.phase(WorkerPhase.READY, seconds, but=others))
            died = asyncio.create_task(process.wait())
            await asyncio.wait({waiting, died}, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            assert process.returncode is None, worker.log()
            worker.id = (await waiting).worker
        return worker


async def _end(worker: WorkerProcess) -> None:
    if worker.process.returncode is None:
        # One after the other, and the second one ends the drain; who had none is gone by then.
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)
            worker.process.send_signal(signal.SIGINT)
        try:
            await worker.ended(15)
        except TimeoutError:
            worker.process.kill()
            await worker.process.wait()


@pytest.fixture
async def stand(nats_process: StartNats, tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand.around(nats_process, tmp_path) as made:
        yield made
