"""What workers and scalers of all clusters tell, as it is heard on the web machine: no I/O."""

from collections.abc import Iterator
from typing import Final

import msgspec

from headrace.protocol.plan import PLAN_SECONDS, Plan
from headrace.protocol.state import FRESH_SECONDS, WorkerPhase, WorkerState

MAX_WORKERS: Final = 20_000
"""Heartbeats of more workers than that are left out, and plans of more models."""


class Beat(msgspec.Struct):
    """A worker's last heartbeat, when it came, and the tokens per second since the one before."""

    state: WorkerState
    at: float
    tokens_per_second: float = 0.0


class LiveView:
    """The last word of each worker and each scaler. Times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._beats: dict[str, Beat] = {}
        self._plans: dict[tuple[str, str], tuple[Plan, float]] = {}

    def on_state(self, state: WorkerState, now: float) -> None:
        """Take a heartbeat in."""
        last = self._beats.get(state.worker)
        if state.phase is WorkerPhase.GONE:
            self._beats.pop(state.worker, None)
            return
        if last is None:
            if len(self._beats) >= MAX_WORKERS:
                self._beats = {each.state.worker: each for each in self._fresh(now)}
            if len(self._beats) < MAX_WORKERS:
                self._beats[state.worker] = Beat(state, now)
            return
        # A change of phase brings a heartbeat at once: too short a time to measure a rate.
        if now - last.at < 0.5:  # half of the usual second
            last.state = msgspec.structs.replace(state, tokens=last.state.tokens)
            return
        made = max(0, state.tokens - last.state.tokens)
        self._beats[state.worker] = Beat(state, now, made / (now - last.at))

    def on_plan(self, plan: Plan, now: float) -> None:
        """Take a scaler's word in."""
        key = (plan.model, plan.cluster)
        if plan.removed:
            self._plans.pop(key, None)
        elif key in self._plans or len(self._plans) < MAX_WORKERS:
            self._plans[key] = (plan, now)

    def models(self, now: float) -> list[str]:
        """The slugs of all models that have been heard of lately, in order."""
        workers = {beat.state.model for beat in self._fresh(now)}
        planned = {model for (model, _), (_, at) in self._plans.items() if now - at < PLAN_SECONDS}
        return sorted(workers | planned)

    def workers(self, model: str, now: float) -> list[Beat]:
        """The workers of a model that are there, cluster by cluster."""
        found = [beat for beat in self._fresh(now) if beat.state.model == model]
        return sorted(
            found, key=lambda each: (each.state.cluster, each.state.node, each.state.worker)
        )

    def plans(self, model: str, now: float) -> list[Plan]:
        """What scalers say of a model."""
        return [
            plan
            for (slug, _), (plan, at) in sorted(self._plans.items(), key=lambda each: each[0])
            if slug == model and now - at < PLAN_SECONDS
        ]

    def _fresh(self, now: float) -> Iterator[Beat]:
        return (beat for beat in self._beats.values() if now - beat.at < FRESH_SECONDS)
