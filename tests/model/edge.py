"""The edge's process: the real dispatcher and endpoint, and the clients of its connections."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from headrace.edge.api.inference import ROWS, Inference
from headrace.edge.auth.api_keys import Principal
from headrace.edge.dispatch.dispatcher import Dispatcher
from headrace.edge.limits.admission import AdmissionControl
from headrace.edge.limits.counters import Counters
from headrace.edge.limits.limiter import Limiter
from headrace.edge.models.registry import ModelRegistry
from headrace.edge.options import EdgeOptions, ModelOptions
from headrace.gateway.policy.snapshot import Snapshot
from headrace.gateway.store.queries import Records
from headrace.protocol import subjects
from headrace.protocol.names import ProcessId, RequestId
from tests.model.check import Check
from tests.model.engine import Task
from tests.model.network import Bus, Link, Network
from tests.model.nothing import Log, Metrics, Nothing
from tests.model.worker import MODEL

EDGE = ProcessId("edge".ljust(16, "0"))
OPTIONS = EdgeOptions(secret_file="x", models=(ModelOptions(name=MODEL),))


SOCKET_BYTES = 200_000
"""What the sockets hold for a client that does not read."""
FOR_EVER = 3600.0


@dataclass
class Asked:
    """One request of one client."""

    number: int
    task: Task
    at: float
    """When it comes."""
    deadline: float
    """Seconds from then on."""
    stream: bool = True
    seamless: bool = True
    """Whether it asks for nothing that keeps it from being continued."""
    leaves_after: float | None = None
    reads_every: float = 0.0
    """Seconds between reads of a slow client; below 0 of one that stops reading."""

    @property
    def id(self) -> RequestId:
        """Of the request."""
        return RequestId(f"{self.number:032x}")


class _Keys:
    snapshot = Snapshot(Records(0), b"")

    async def admit(self, scope: object) -> Principal:
        return Principal("k", "t")


class Edge:
    """One edge process."""

    def __init__(self, network: Network, link: Link, check: Check, log: Log) -> None:
        self.loop = network.loop.clock.loop("edge")
        self.bus = Bus(network, self.loop, link, name="edge", inbox=subjects.edge_inbox(EDGE))
        self.bus.direct = True
        self.link = link
        self._check = check
        self._log = log
        self.dispatcher: Dispatcher
        self._models: ModelRegistry
        self._clients: list[asyncio.Task[None]] = []
        self.loop.call_soon(self._start)

    def _start(self) -> None:
        self._models = ModelRegistry(OPTIONS.models, 0)
        self.dispatcher = Dispatcher(
            EDGE, self.bus, models=self._models, options=OPTIONS,
            metrics=cast("Any", Metrics(self._check.history)), log=cast("Any", self._log),
        )  # fmt: skip
        self._main = self.loop.create_task(self.dispatcher.run())

    def close(self) -> None:
        """The history is over."""
        self._main.cancel()
        for task in self._clients:
            task.cancel()

    def ask(self, asked: Asked) -> None:
        """A client comes at its time."""
        self.loop.call_at(asked.at, self._ask, asked)

    def _ask(self, asked: Asked) -> None:
        inference = Inference(
            ROWS[0], keys=cast("Any", _Keys()), models=self._models, dispatcher=self.dispatcher,
            turnstile=AdmissionControl(cast("Any", _Keys()), Limiter(Counters())),
            options=msgspec.structs.replace(OPTIONS, deadline_seconds=asked.deadline),
            metrics=cast("Any", Nothing()), log=cast("Any", self._log),
        )  # fmt: skip
        client = Client(asked, self._check)
        self._clients.append(self.loop.create_task(client.run(inference)))


class Client:
    """The other end of one connection, as uvicorn shows it."""

    def __init__(self, asked: Asked, check: Check) -> None:
        self._asked = asked
        self._check = check
        self._left = asyncio.Event()
        self._body: bytes | None = self._request()
        self._status = 0
        self._sent = 0

    async def run(self, inference: Inference) -> None:
        """Ask, and take what comes."""
        asked = self._asked
        self._check.asked(asked)
        if asked.leaves_after is not None:
            asyncio.get_running_loop().call_later(asked.leaves_after, self._leave)
        scope = {"type": "http", "headers": [], "headrace.request_id": asked.id}
        await inference(scope, self._receive, self._send)
        self._check.closed(asked.number)

    def _request(self) -> bytes:
        asked = self._asked
        body: dict[str, object] = {"model": MODEL, "messages": [{}], "stream": asked.stream}
        if not asked.seamless:
            body["presence_penalty"] = 0.5
        return msgspec.json.encode(body)

    def _leave(self) -> None:
        if self._check.leaves(self._asked.number):
            self._left.set()

    async def _receive(self) -> Any:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self._left.is_set():
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            return
        number = self._asked.number
        self._check.received(number, self._status, message.get("body", b""))
        if not message.get("more_body", False):
            self._check.answered(number)
            return
        self._sent += len(message.get("body", b""))
        if self._asked.reads_every and self._sent > SOCKET_BYTES:
            seconds = self._asked.reads_every if self._asked.reads_every > 0 else FOR_EVER
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), seconds)
