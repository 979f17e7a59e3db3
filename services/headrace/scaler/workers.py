"""What all workers of the cluster last said of themselves, by model. No I/O."""

from collections import defaultdict
from typing import Final

from headrace.protocol.state import WorkerState
from headrace.scaler.fleet import LastHeartbeat

FORGET_SECONDS: Final = 600.0

MAX_WORKERS: Final = 10_000
"""Heartbeats of more workers than that are not believed."""


class Workers:
    """The last heartbeat of each worker."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._models: dict[str, dict[str, LastHeartbeat]] = defaultdict(dict)
        self._count = 0

    def hear(self, state: WorkerState, now: float) -> None:
        """Take a heartbeat in."""
        workers = self._models[state.model]
        if state.worker not in workers:
            if self._count >= MAX_WORKERS:
                return
            self._count += 1
        workers[state.worker] = LastHeartbeat(state, now)

    def of(self, model: str) -> list[LastHeartbeat]:
        """The workers of a model in this cluster."""
        return [
            each for each in self._models[model].values() if each.state.cluster == self._cluster
        ]

    def at(self, job: int) -> bool:
        """Whether a worker in this Slurm job was heard lately."""
        return any(each.state.job == job for model in list(self._models) for each in self.of(model))

    def forget(self, now: float) -> None:
        """Drop those not heard for long."""
        for workers in self._models.values():
            for worker in [w for w, each in workers.items() if now - each.at > FORGET_SECONDS]:
                del workers[worker]
                self._count -= 1
