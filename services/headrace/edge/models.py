"""The models that clients may ask for, and what their workers say of themselves."""

from collections.abc import Iterable
from typing import Final

import msgspec

from headrace.edge.options import ModelOptions
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import Slug
from headrace.protocol.state import WorkerPhase, WorkerState

FRESH_SECONDS: Final = 3.5
"""A heartbeat comes every second: this forgives the loss of two."""

MAX_WORKERS: Final = 10_000
"""Workers known per model. More heartbeats than that are not believed."""


class Demand(msgspec.Struct, frozen=True):
    """A model as its workers tell it: what `state` it is in and how busy."""

    state: str
    workers: int
    slots: int
    running: int


class Model:
    """One model and its workers' last heartbeats."""

    def __init__(self, options: ModelOptions) -> None:
        self.name = options.name
        self.slug: Slug = options.queue
        self.endpoints = frozenset(options.endpoints)
        self._workers: dict[str, tuple[WorkerState, float]] = {}

    def observe(self, state: WorkerState, now: float) -> None:
        """Take a heartbeat in."""
        if state.worker in self._workers or len(self._workers) < MAX_WORKERS:
            self._workers[state.worker] = (state, now)

    def forget(self, before: float) -> None:
        """Drop the workers that were last heard before that time."""
        for worker, (_, heard) in list(self._workers.items()):
            if heard < before:
                del self._workers[worker]

    def heard(self, worker: str) -> float:
        """When `worker` was last heard; 0 if it never was, or has said that it is gone."""
        known = self._workers.get(worker)
        if known is None or known[0].phase is WorkerPhase.GONE:
            return 0.0
        return known[1]

    def demand(self, now: float) -> Demand:
        """What its workers say right now: ``ready``, ``loading``, or ``cold`` without any."""
        fresh = [state for state, heard in self._workers.values() if now - heard < FRESH_SECONDS]
        ready = [state for state in fresh if state.phase is WorkerPhase.READY]
        loading = any(state.phase is WorkerPhase.LOADING for state in fresh)
        return Demand(
            state="ready" if ready else "loading" if loading else "cold",
            workers=len(ready),
            slots=sum(state.slots for state in ready),
            running=sum(state.running for state in ready),
        )


class Models:
    """All models by name and by slug."""

    def __init__(self, options: Iterable[ModelOptions], created: int) -> None:
        self.created = created
        self._slugs = {model.queue: Model(model) for model in options}
        self._names = {str(model.slug): model for model in self._slugs.values()}
        self._names |= {model.name: model for model in self._slugs.values()}

    def all(self) -> list[Model]:
        """Every model, in the order of the configuration."""
        return list(self._slugs.values())

    def find(self, name: str) -> Model:
        """The model that a client names. Raises HeadraceError ``model_not_found``."""
        model = self._names.get(name)
        if model is None:
            raise HeadraceError(
                Code.MODEL_NOT_FOUND,
                f"The model `{name[:200]}` does not exist or you do not have access to it.",
                param="model",
            )
        return model

    def find_for(self, name: str, endpoint: Endpoint) -> Model:
        """The model that a client names for `endpoint`; also raises ``endpoint_not_served``."""
        model = self.find(name)
        if endpoint not in model.endpoints:
            raise HeadraceError(
                Code.ENDPOINT_NOT_SERVED,
                f"The model `{model.name}` does not serve {endpoint}.",
                param="model",
            )
        return model

    def by_slug(self, slug: str) -> Model | None:
        """The model of a slug, or None."""
        return self._slugs.get(Slug(slug))

    def observe(self, state: WorkerState, now: float) -> None:
        """Take a heartbeat in; one of a model we don't have is nobody's business."""
        model = self._slugs.get(Slug(state.model))
        if model is not None:
            model.observe(state, now)
