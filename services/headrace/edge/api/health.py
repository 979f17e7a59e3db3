"""Health, readiness and metrics."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.types import Receive, Scope, Send

from headrace.edge.api.http import respond, respond_json
from headrace.edge.dispatch.dispatcher import Dispatcher


class Health:
    """``GET /healthz``: the process lives."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        await respond_json(send, 200, {"status": "ok"})


class Ready:
    """``GET /readyz``: requests can be taken. ``GET /health``: the same, as engines call it."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if self._dispatcher.ready:
            await respond_json(send, 200, {"status": "ready"})
        else:
            reason = "the request queue cannot be reached"
            await respond_json(send, 503, {"status": "not ready", "reason": reason})


class MetricsPage:
    """``GET /metrics``: Prometheus' text format."""

    def __init__(self, registry: Callable[[], CollectorRegistry]) -> None:
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        body = generate_latest(self._registry())
        await respond(send, 200, body, [(b"content-type", CONTENT_TYPE_LATEST.encode())])
