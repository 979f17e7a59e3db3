"""The small endpoints: models, health, readiness, metrics."""

import asyncio
from collections.abc import Callable

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.types import Receive, Scope, Send

from headrace.edge.dispatcher import Dispatcher
from headrace.edge.http import respond, respond_error, respond_json
from headrace.edge.keys import KeyRing
from headrace.edge.models import Demand, Model, Models
from headrace.protocol.errors import HeadraceError


class ModelObject(msgspec.Struct):
    """OpenAI's model object, with what Headrace knows of the model's demand beside it."""

    id: str
    created: int
    headrace: Demand
    object: str = "model"
    owned_by: str = "headrace"


class ModelPage(msgspec.Struct):
    """OpenAI's list object."""

    data: list[ModelObject]
    object: str = "list"


def model_object(model: Model, created: int, now: float) -> ModelObject:
    """What clients are told of `model`."""
    return ModelObject(id=model.name, created=created, headrace=model.demand(now))


class ModelList:
    """``GET /v1/models``: every model, cold ones too."""

    def __init__(self, keys: KeyRing, models: Models) -> None:
        self._keys = keys
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        try:
            self._keys.authenticate(scope["headers"])
        except HeadraceError as error:
            await respond_error(send, error)
            return
        now = asyncio.get_running_loop().time()
        created = self._models.created
        page = ModelPage([model_object(model, created, now) for model in self._models.all()])
        await respond_json(send, 200, page)


class OneModel:
    """``GET /v1/models/{id}``."""

    def __init__(self, keys: KeyRing, models: Models) -> None:
        self._keys = keys
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        try:
            self._keys.authenticate(scope["headers"])
            model = self._models.find(scope["path_params"]["name"])
        except HeadraceError as error:
            await respond_error(send, error)
            return
        now = asyncio.get_running_loop().time()
        await respond_json(send, 200, model_object(model, self._models.created, now))


class Health:
    """``GET /healthz``: the process lives."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        await respond_json(send, 200, {"status": "ok"})


class Ready:
    """``GET /readyz``: requests can be taken."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if self._dispatcher.ready:
            await respond_json(send, 200, {"status": "ready"})
        else:
            reason = "the request queue cannot be reached"
            await respond_json(send, 503, {"status": "not ready", "reason": reason})


class Metrics:
    """``GET /metrics``: Prometheus' text format."""

    def __init__(self, registry: Callable[[], CollectorRegistry]) -> None:
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        body = generate_latest(self._registry())
        await respond(send, 200, body, [(b"content-type", CONTENT_TYPE_LATEST.encode())])
