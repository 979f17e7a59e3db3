"""The edge's routes, put together."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.edge.api.errors import body_of, headers_of
from headrace.edge.api.health import Health, MetricsPage, Ready
from headrace.edge.api.http import OUR_FAULT, ErrorBoundary
from headrace.edge.api.inference import ROWS, Inference
from headrace.edge.api.models import ModelList, OneModel, OneQueue
from headrace.edge.auth.api_keys import KeyRing
from headrace.edge.dispatch.dispatcher import Dispatcher
from headrace.edge.limits.admission import AdmissionControl
from headrace.edge.metrics import EdgeMetrics
from headrace.edge.models.registry import ModelRegistry
from headrace.edge.options import EdgeOptions
from headrace.edge.portal.admin_api import ACTS
from headrace.edge.portal.admin_executor import AdminExecutor, AdminRoute
from headrace.edge.portal.app import AccountPages
from headrace.protocol.errors import Code, HeadraceError
from headrace.runtime.logging import Logger


def build(
    *,
    keys: KeyRing,
    models: ModelRegistry,
    dispatcher: Dispatcher,
    options: EdgeOptions,
    turnstile: AdmissionControl,
    backroom: AdminExecutor | None,
    account: AccountPages | None,
    metrics: EdgeMetrics,
    registry: Callable[[], CollectorRegistry],
    log: Logger,
) -> ASGIApp:
    """The whole app. `registry` gives the registry to show at ``/metrics``.

    Without a `backroom`, which needs a store, there is no administration.
    """
    hot = {
        row.path: Inference(
            row, keys=keys, models=models, dispatcher=dispatcher, options=options,
            turnstile=turnstile, metrics=metrics, log=log,
        )
        for row in ROWS
    }  # fmt: skip
    routes = [Route(path, each, methods=["POST"]) for path, each in hot.items()]
    routes += [
        Route("/v1/models", ModelList(keys, models, dispatcher), methods=["GET"]),
        Route("/v1/models/{name:path}/queue", OneQueue(keys, models, dispatcher), methods=["GET"]),
        Route("/v1/models/{name:path}", OneModel(keys, models, dispatcher), methods=["GET"]),
        Route("/healthz", Health(), methods=["GET"]),
        Route("/readyz", Ready(dispatcher), methods=["GET"]),
        Route("/health", Ready(dispatcher), methods=["GET"]),
        Route("/metrics", MetricsPage(registry), methods=["GET"]),
    ]
    if backroom is not None:
        routes += [
            Route(path, AdminRoute(backroom, acts), methods=list(acts))
            for path, acts in ACTS.items()
        ]
    if account is not None:
        routes += [
            Route(path, AsgiApp(serve), methods=[method])
            for path, method, serve in account.routes()
        ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_exception, Exception: _any_exception},
    )
    app.router.redirect_slashes = False
    return ErrorBoundary(app, hot)


class AsgiApp:
    """An ASGI app out of a coroutine function: Starlette takes a bare function for another kind."""

    def __init__(self, serve: ASGIApp) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        await self._serve(scope, receive, send)


async def _http_exception(request: Request, error: Exception) -> Response:
    """What Starlette's router refuses."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        allowed = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
        return _error_response(
            HeadraceError(
                Code.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here; use {allowed}."
            ),
            allow=allowed,
        )
    return _error_response(HeadraceError(Code.UNKNOWN_URL, "There is nothing at this URL."))


async def _any_exception(_: Request, __: Exception) -> Response:
    """A defect of ours: the client learns its request's id and nothing else."""
    return _error_response(HeadraceError(Code.INTERNAL, OUR_FAULT))


def _error_response(error: HeadraceError, allow: str = "") -> Response:
    headers = {name.decode(): value.decode() for name, value in headers_of(error)}
    if allow:
        headers["allow"] = allow
    return Response(body_of(error), status_code=error.status, headers=headers)
