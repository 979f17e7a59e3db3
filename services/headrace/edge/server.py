"""One edge process: from its options to a served port, and back down."""

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from headrace.edge import app
from headrace.edge.api.connection import HttpConnection
from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.dispatch.dispatcher import Dispatcher
from headrace.edge.gateway import Gateway
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.models.registry import ModelRegistry
from headrace.edge.options import EdgeOptions
from headrace.external.model import ExternalModel
from headrace.gateway.policy import api_keys
from headrace.protocol import subjects
from headrace.protocol.errors import Code
from headrace.protocol.names import Slug, new_process_id
from headrace.runtime.lifecycle import FatalError, Lifecycle
from headrace.runtime.nats.bus import Bus

BACKLOG = 4096
"""Connections that may wait to be accepted: a class that presses Enter at once."""


ALONE_SECONDS = 5.0
"""After so long without the queue, one of several processes takes connections all the same: the
others are hardly better off, and a clear 503 is better than nothing."""

LOOK_SECONDS = 0.02


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are the lifecycle's


def listen(host: str, port: int, *, shared: bool) -> socket.socket:
    """A bound socket; with `shared`, one of several on the same port. Raises FatalError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise FatalError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


async def serve(
    options: EdgeOptions, external: Mapping[Slug, ExternalModel], created: int, life: Lifecycle
) -> int:
    """Serve until told to stop; then take nothing new, let streams end, and end the rest."""
    sock = listen(options.host, options.port, shared=options.processes > 1)
    edge = new_process_id()
    log = life.log.bind(edge=edge)
    registry = CollectorRegistry()
    metrics = EdgeMetrics(registry)
    models = ModelRegistry(
        options.models, created, math.inf if options.learn_seconds else 0.0, external.values()
    )
    keys = KeyRing(api_keys.load_secret(Path(options.secret_file)), options.keys)
    bus = Bus(log, name=f"edge-{edge}", inbox=subjects.edge_inbox(edge))
    dispatcher = Dispatcher(edge, bus, models=models, options=options, metrics=metrics, log=log)
    gatehouse = Gateway(
        edge, keys, options, lambda: max(dispatcher.others, options.processes - 1),
        metrics=metrics, log=log,
    )  # fmt: skip
    dispatcher.on_started = gatehouse.turnstile.started
    dispatcher.on_stopped = gatehouse.turnstile.stopped
    dispatcher.on_anew = gatehouse.turnstile.anew
    metrics.live.set_function(lambda: len(dispatcher.live))
    asgi = app.build(
        keys=keys, models=models, dispatcher=dispatcher, options=options,
        turnstile=gatehouse.turnstile, backroom=gatehouse.backroom,
        account=gatehouse.account(options, log), metrics=metrics,
        registry=lambda: shown(registry), log=log,
    )  # fmt: skip
    server = _Server(
        uvicorn.Config(
            asgi,
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=75,
        )
    )  # fmt: skip
    await gatehouse.start()
    async with asyncio.TaskGroup() as tasks:
        gates = tasks.create_task(gatehouse.run(), name="gatehouse")
        http = tasks.create_task(_http(server, sock, options, dispatcher, life), name="http")
        link = tasks.create_task(_link(bus, options, dispatcher, life), name="bus")
        await life.stopping.wait()
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            async with life.draining():
                await asyncio.wait([http])
        dispatcher.fail_all(Code.UNAVAILABLE, "The server is going down; try again.")
        await asyncio.wait([http], timeout=2.0)
        server.force_exit = True
        await dispatcher.settle()
        gates.cancel()
        link.cancel()
    await gatehouse.close()
    await bus.close()
    return 0


async def _http(
    server: uvicorn.Server,
    sock: socket.socket,
    options: EdgeOptions,
    dispatcher: Dispatcher,
    life: Lifecycle,
) -> None:
    """Take connections until told to stop.

    At once: while the bus is not there, clients get a clear 503 instead of nothing. But one of
    several processes leaves them to those that are ready, until it is so itself.
    """
    if options.processes > 1:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ALONE_SECONDS):
                # Looked at: readiness comes and goes, and so is no event.
                while not dispatcher.ready and not life.stopping.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
    if not life.stopping.is_set():
        await server.serve(sockets=[sock])


async def _link(bus: Bus, options: EdgeOptions, dispatcher: Dispatcher, life: Lifecycle) -> None:
    await bus.connect(options.bus)
    life.ready()
    await dispatcher.run()


def shown(registry: CollectorRegistry) -> CollectorRegistry:
    """The registry to show: of all edge processes together where there are several."""
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not path:
        return registry
    together = CollectorRegistry()
    MultiProcessCollector(together, path)  # type: ignore[no-untyped-call]
    return together
