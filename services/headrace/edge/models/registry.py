"""The models that clients may ask for: from edge.toml, and from what clusters announce."""

import math
from collections.abc import Iterable
from typing import Final

from headrace.edge.models.status import ModelStatus, standing
from headrace.edge.options import ModelOptions
from headrace.external.model import ExternalModel
from headrace.gateway.policy import access
from headrace.gateway.store import budgets
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import Slug
from headrace.protocol.plan import PLAN_SECONDS, Facts, Plan
from headrace.protocol.state import FRESH_SECONDS, WorkerPhase, WorkerState

LEARN_SECONDS: Final = 10.0
"""After this long every cluster that is there has told its models."""

MAX_WORKERS: Final = 10_000
"""Workers known per model. More heartbeats than that are not believed."""

MAX_ANNOUNCED: Final = 1000
"""Models that clusters may announce, all together; more are not taken in."""

MAX_CLUSTERS: Final = 64
"""Clusters that may announce one model."""


class RegisteredModel:
    """One model, its workers' last heartbeats and its clusters' last plans."""

    def __init__(
        self, slug: Slug, facts: Facts, *, fixed: bool, external: ExternalModel | None = None
    ) -> None:
        self.slug = slug
        self.external = external
        """Its file, where its prompts leave the site."""
        self.facts = facts
        self._access = (
            budgets.access_of(external) if external else access.AccessTarget(facts.name, slug)
        )
        self.fixed = fixed
        """Whether it is in edge.toml, and stays whatever clusters say."""
        self.listed = fixed
        """Whether clients may ask for it."""
        self._workers: dict[str, tuple[WorkerState, float]] = {}
        self._plans: dict[str, tuple[Plan, float]] = {}

    @property
    def name(self) -> str:
        """As clients write it."""
        return self.facts.name

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What it may be asked for."""
        return self.facts.endpoints

    @property
    def access(self) -> access.AccessTarget:
        """What counts of it for who may use it."""
        known = self._access
        if known.name != self.facts.name:
            known = self._access = access.AccessTarget(self.facts.name, self.slug)
        return known

    @property
    def removed(self) -> bool:
        """Whether every cluster that had it has taken it away."""
        return not self.fixed and not self._plans

    def observe(self, state: WorkerState, now: float) -> None:
        """Take a heartbeat in."""
        if state.worker in self._workers or len(self._workers) < MAX_WORKERS:
            self._workers[state.worker] = (state, now)

    def plan(self, plan: Plan, now: float) -> None:
        """Take a cluster's plan in; one with `removed` takes the cluster's word back."""
        if plan.removed:
            self._plans.pop(plan.cluster, None)
        elif plan.cluster in self._plans or len(self._plans) < MAX_CLUSTERS:
            # The time of its arrival counts: the cluster's clock may differ from ours.
            self._plans[plan.cluster] = (plan, now)
        if self._plans and not self.fixed:
            self.facts = _together(plan.facts for _, (plan, _) in sorted(self._plans.items()))

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

    @property
    def known_workers(self) -> int:
        """Workers that were heard lately."""
        return len(self._workers)

    def ready(self, now: float) -> bool:
        """Whether a worker of it has just said that it takes requests: the quick look."""
        return any(
            state.phase is WorkerPhase.READY and now - heard < FRESH_SECONDS
            for state, heard in self._workers.values()
        )

    def standing(self, now: float) -> ModelStatus:
        """Where it stands right now. A cluster that is silent is neither good nor bad news."""
        beats = [state for state, heard in self._workers.values() if now - heard < FRESH_SECONDS]
        ages = [(plan, now - heard) for plan, heard in self._plans.values()]
        fresh = [(plan, age) for plan, age in ages if age < PLAN_SECONDS]
        return standing(beats, fresh, silent=bool(ages) and not fresh)


def not_found(name: str) -> HeadraceError:
    """What is said of a model that is not there, and of one that the client may not use."""
    return HeadraceError(
        Code.MODEL_NOT_FOUND,
        f"The model `{name[:200]}` does not exist or you do not have access to it.",
        param="model",
    )


def _together(facts: Iterable[Facts]) -> Facts:
    """What several clusters say of one model: the first one's words, the endpoints of all."""
    first, *others = facts
    served = [set(other.endpoints) for other in others]
    endpoints = tuple(each for each in first.endpoints if all(each in other for other in served))
    return Facts(first.name, endpoints, first.modality, first.description, first.group)


class ModelRegistry:
    """All models by name and by slug."""

    def __init__(
        self,
        options: Iterable[ModelOptions],
        created: int,
        complete_at: float = 0.0,
        external: Iterable[ExternalModel] = (),
    ) -> None:
        self.created = created
        self.complete_at = complete_at
        """From when on a name that is not known here is known nowhere; before that a cluster may
        have yet to announce it."""
        self._slugs: dict[Slug, RegisteredModel] = {}
        self._names: dict[str, RegisteredModel] = {}
        self.refused = ""
        """The slug of the last announcement that was not taken in, for the log."""
        for each in options:
            facts = Facts(each.name, tuple(dict.fromkeys(each.endpoints)))
            self._slugs[each.queue] = RegisteredModel(each.queue, facts, fixed=True)
        for file in external:
            self._slugs[file.queue] = RegisteredModel(
                file.queue, file.facts, fixed=True, external=file
            )
        self._rename()

    def all(self) -> list[RegisteredModel]:
        """Every model that clients may ask for: the configured ones, then the announced ones."""
        listed = [model for model in self._slugs.values() if model.listed]
        # The same order in every edge process, whoever was announced first there.
        return sorted(listed, key=lambda model: "" if model.fixed else model.slug)

    def known(self) -> list[RegisteredModel]:
        """Those too that are not listed yet, or no more."""
        return list(self._slugs.values())

    def find(self, name: str, now: float) -> RegisteredModel:
        """The model that a client names. Raises HeadraceError ``model_not_found``, or
        ``service_unavailable`` while it may still be announced.
        """
        model = self._names.get(name)
        if model is None and now < self.complete_at:
            # OpenAI's clients never try again after a 404.
            seconds = min(self.complete_at - now, LEARN_SECONDS)
            raise HeadraceError(
                Code.UNAVAILABLE,
                f"The model `{name[:200]}` is not known yet: this server has just been started.",
                param="model",
                retry_after=math.ceil(seconds),
            )
        if model is None:
            raise not_found(name)
        return model

    def find_for(self, name: str, endpoint: Endpoint, now: float) -> RegisteredModel:
        """The model that a client names for `endpoint`; also raises ``endpoint_not_served``."""
        return self.serving(self.find(name, now), endpoint)

    @staticmethod
    def serving(model: RegisteredModel, endpoint: Endpoint) -> RegisteredModel:
        """The same model, if it serves `endpoint`. Raises ``endpoint_not_served``."""
        if endpoint not in model.endpoints:
            raise HeadraceError(
                Code.ENDPOINT_NOT_SERVED,
                f"The model `{model.name}` does not serve {endpoint}.",
                param="model",
            )
        return model

    def by_slug(self, slug: str) -> RegisteredModel | None:
        """The model of a slug, listed or not, or None."""
        return self._slugs.get(Slug(slug))

    def observe(self, state: WorkerState, now: float) -> None:
        """Take a heartbeat in; one of a model we don't have is nobody's business."""
        model = self._slugs.get(Slug(state.model))
        if model is not None:
            model.observe(state, now)

    def announce(self, plan: Plan, now: float) -> RegisteredModel | None:
        """Take a plan in. Returns a model that is not listed yet: its queue must be made first.

        What is beyond the bounds, or would take another model's name, is `refused`.
        """
        slug = Slug(plan.model)
        model = self._slugs.get(slug)
        if model is None:
            if plan.removed:
                return None
            announced = sum(not each.fixed for each in self._slugs.values())
            if announced >= MAX_ANNOUNCED or self._taken(plan, None):
                self.refused = slug
                return None
            model = self._slugs[slug] = RegisteredModel(slug, plan.facts, fixed=False)
        elif not model.fixed and not plan.removed and self._taken(plan, model):
            self.refused = slug
            return None
        before = model.facts
        model.plan(plan, now)
        if model.removed:
            model.listed = False
        if model.facts != before or not model.listed:
            self._rename()
        return model if not model.listed and not model.removed else None

    def show(self, model: RegisteredModel) -> None:
        """Its queue is there: clients may ask for it now."""
        if not model.removed:
            model.listed = True
            self._rename()

    def forget(self, before: float) -> None:
        """Drop workers that were last heard before that time, and models that have left."""
        for model in self.known():
            model.forget(before)
            if model.removed and not model.known_workers:
                del self._slugs[model.slug]

    def _taken(self, plan: Plan, own: RegisteredModel | None) -> bool:
        """Whether a name of the plan's model is another model's already, listed or not."""
        words = {plan.facts.name, plan.model}
        return any(
            other is not own and not words.isdisjoint((other.name, str(other.slug)))
            for other in self._slugs.values()
        )

    def _rename(self) -> None:
        models = self.all()
        self._names = {str(model.slug): model for model in models}
        self._names |= {model.name: model for model in models}
