"""Where a model stands, put together from its workers' heartbeats and its clusters' plans."""

from collections.abc import Iterable
from typing import Final

import msgspec

from headrace.protocol import waiting
from headrace.protocol.plan import Interval, ModelPhase, Plan
from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.protocol.waiting import Supply

PHASES: Final = tuple(ModelPhase)
"""Worst to best, as `ModelPhase` lists them."""

SILENT: Final = "its clusters have not been heard of lately"


class ModelStatus(msgspec.Struct, frozen=True):
    """A model as its clients see it; of several clusters the best state and the sums."""

    phase: ModelPhase
    reason: str
    """Why it is not better, where a cluster says so."""
    workers: int
    """Ready ones."""
    slots: int
    running: int
    pending: int
    """Jobs that wait in Slurm."""
    loading: int
    supply: Supply

    @property
    def ready(self) -> bool:
        """Whether a worker can take a request."""
        return self.phase is ModelPhase.READY

    def wait(self, position: int) -> Interval | None:
        """How long the request at `position` is likely to wait; None where unknown."""
        if self.phase is ModelPhase.FAILED:
            return None
        return waiting.wait(position, self.supply)


def standing(
    states: Iterable[WorkerState], plans: Iterable[tuple[Plan, float]], *, silent: bool = False
) -> ModelStatus:
    """The standing by fresh heartbeats and fresh plans, each plan with its age in seconds.

    `silent` says that there were plans, and that none of them is fresh.
    """
    beats = list(states)
    ready = [state for state in beats if state.phase is WorkerPhase.READY]
    told = list(plans)
    phases = [plan.phase for plan, _ in told]
    if ready:
        phases.append(ModelPhase.READY)
    if any(state.phase is WorkerPhase.LOADING for state in beats):
        phases.append(ModelPhase.LOADING)
    phase = max(phases, key=PHASES.index, default=ModelPhase.COLD)
    best = [plan for plan, _ in told if plan.phase is phase]
    reason = next((plan.reason for plan in best if plan.reason), "")
    # Heartbeats are the younger news; plans stand in where a model's workers are not heard here.
    slots = sum(state.slots for state in ready) or sum(plan.slots for plan, _ in told)
    running = sum(state.running for state in ready)
    ready_in, each = None, None
    for plan, age in told:
        if plan.ready_in is not None:
            ready_in = waiting.sooner(ready_in, waiting.passed(plan.ready_in, age))
        each = waiting.either(each, plan.each)
    pending = sum(plan.pending for plan, _ in told)
    loading = sum(plan.loading for plan, _ in told)
    return ModelStatus(
        phase=phase,
        reason=reason or (SILENT if silent and phase is ModelPhase.COLD else ""),
        workers=len(ready) or sum(plan.ready for plan, _ in told),
        slots=slots,
        running=running,
        pending=pending,
        loading=loading,
        supply=Supply(
            slots=slots if phase is ModelPhase.READY else 0,
            free=max(slots - running, 0) if ready else 0,
            coming=pending + loading,
            worker_slots=max((plan.worker_slots for plan, _ in told), default=0),
            ready_in=ready_in,
            each=each,
        ),
    )
