"""What the scalers of other clusters last said of their models. No I/O."""

from collections import defaultdict
from typing import Final

from headrace.protocol.plan import Plan
from headrace.scaler.policy import sharing
from headrace.scaler.policy.sharing import PeerWorkers

MAX_PLANS: Final = 10_000
"""More plans, of all clusters and models together, are not believed."""


class PeerClusters:
    """The last plan of each cluster for each model, but for our own cluster's."""

    def __init__(self, cluster: str, stale_seconds: float) -> None:
        self._cluster = cluster
        self._stale_seconds = stale_seconds
        self._models: dict[str, dict[str, tuple[Plan, float]]] = defaultdict(dict)
        self._count = 0

    def hear(self, plan: Plan, now: float) -> None:
        """Take a plan in. The time of its arrival counts: another's clock may differ from ours."""
        if plan.cluster == self._cluster:
            return
        clusters = self._models[plan.model]
        if plan.cluster not in clusters:
            if self._count >= MAX_PLANS:
                return
            self._count += 1
        clusters[plan.cluster] = (plan, now)

    def of(self, model: str, now: float) -> PeerWorkers:
        """What others have of a model, by plans that are fresh."""
        known = self._models.get(model, {}).values()
        return sharing.others((plan for plan, at in known if self._fresh(at, now)), self._cluster)

    def forget(self, now: float) -> None:
        """Drop what is stale."""
        for model, clusters in list(self._models.items()):
            for cluster in [c for c, (_, at) in clusters.items() if not self._fresh(at, now)]:
                del clusters[cluster]
                self._count -= 1
            if not clusters:
                del self._models[model]

    def _fresh(self, at: float, now: float) -> bool:
        return abs(now - at) < self._stale_seconds
