"""``/v1/models`` and ``/v1/models/{id}/queue``: models, their state and their waiting times."""

import asyncio

import msgspec
from starlette.types import Receive, Scope, Send

from headrace.edge.api.http import respond_error, respond_json
from headrace.edge.api.queue_status import ModelFacts, QueueObject, model_facts, queue_object
from headrace.edge.auth.api_keys import KeyRing, Principal
from headrace.edge.dispatch.dispatcher import Dispatcher
from headrace.edge.dispatch.queue_depth import LISTED, LISTED_SECONDS
from headrace.edge.limits.admission import check
from headrace.edge.models.registry import ModelRegistry, RegisteredModel, not_found
from headrace.protocol.errors import HeadraceError


class ModelObject(msgspec.Struct):
    """OpenAI's model object, with where Headrace's model stands beside it."""

    id: str
    created: int
    headrace: ModelFacts
    object: str = "model"
    owned_by: str = "headrace"


class ModelPage(msgspec.Struct):
    """OpenAI's list object."""

    data: list[ModelObject]
    object: str = "list"


class _ModelPages:
    """What the pages about models share."""

    def __init__(self, keys: KeyRing, models: ModelRegistry, dispatcher: Dispatcher) -> None:
        self._keys = keys
        self._models = models
        self._dispatcher = dispatcher
        self._queues = dispatcher.queues
        self._time = asyncio.get_running_loop().time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        try:
            principal = await self._keys.admit(scope)
            lane = self._dispatcher.lane(principal.tenant)
            page = await self._page(scope, principal, lane)
        except HeadraceError as error:
            await respond_error(send, error)
            return
        await respond_json(send, 200, page)

    async def _page(self, scope: Scope, principal: Principal, lane: str) -> object:
        raise NotImplementedError

    def _find(self, scope: Scope, principal: Principal) -> RegisteredModel:
        """The model that the path names, if the client may use it."""
        name = scope["path_params"]["name"]
        model = self._models.find(name, self._time())
        if not check(principal, model.access):
            raise not_found(name)
        return model

    def _object(self, model: RegisteredModel, lane: str) -> ModelObject:
        standing = model.standing(self._time())
        facts = model_facts(model, standing, self._queues.last(model.slug), lane)
        return ModelObject(id=model.name, created=self._models.created, headrace=facts)


class ModelList(_ModelPages):
    """``GET /v1/models``: every model that the client may use, cold ones too."""

    async def _page(self, scope: Scope, principal: Principal, lane: str) -> ModelPage:
        models = [model for model in self._models.all() if check(principal, model.access)]
        await self._queues.look([model.slug for model in models[:LISTED]], LISTED_SECONDS)
        return ModelPage([self._object(model, lane) for model in models])


class OneModel(_ModelPages):
    """``GET /v1/models/{id}``."""

    async def _page(self, scope: Scope, principal: Principal, lane: str) -> ModelObject:
        model = self._find(scope, principal)
        await self._queues.look([model.slug])
        return self._object(model, lane)


class OneQueue(_ModelPages):
    """``GET /v1/models/{id}/queue``: what one hears who would ask now."""

    async def _page(self, scope: Scope, principal: Principal, lane: str) -> QueueObject:
        model = self._find(scope, principal)
        await self._queues.look([model.slug])
        standing = model.standing(self._time())
        return queue_object(model, standing, self._queues.last(model.slug), lane)
