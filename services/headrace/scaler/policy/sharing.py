"""How the clusters that offer one model share its work, without asking each other.

All scalers agree on one order of the workers of the world: first those that are ready, then those
that load, each by the name of their cluster. Where N are needed in all, the first N count, and each
cluster keeps those of its own that are among them. What is missing to N every cluster submits: who
gets a job first serves, and the others give up what is then no longer needed. Jobs that wait in a
queue of Slurm's have no place in the order, for nobody knows when they start.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from headrace.protocol.plan import Plan

MOST: Final = 64
"""More workers of a model than that, in the clusters of one side, are not believed. It also bounds
how long a decision takes."""

PATIENCE_SECONDS: Final = 60.0
"""Workers that serve bring the queue down. If requests wait for longer than this and twice a load
time although others claim workers, the claim is not believed ..."""

DOUBT_SECONDS: Final = 600.0
"""... for so long, and then tried again."""


class PeerWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """Workers of one model in clusters whose names come before ours, and after."""

    ready_before: int = 0
    ready_after: int = 0
    loading_before: int = 0
    loading_after: int = 0

    @property
    def ready(self) -> int:
        """Those that serve."""
        return self.ready_before + self.ready_after

    @property
    def loading(self) -> int:
        """Those whose jobs run and that will serve."""
        return self.loading_before + self.loading_after

    @property
    def count(self) -> int:
        """All that count."""
        return self.ready + self.loading


NOBODY: Final = PeerWorkers()


def share(total: int, ready: int, loading: int, others: PeerWorkers) -> int:
    """Our share of `total` workers, when we have `ready` and `loading` ones.

    Whatever the numbers, the shares of clusters with the same view add up to `total` where there
    are so many workers, and to more only while some are missing.
    """
    kept = _part(total - others.ready_before, ready)
    kept += _part(total - ready - others.ready - others.loading_before, loading)
    return kept + max(total - ready - loading - others.count, 0)


def _part(room: int, ours: int) -> int:
    return min(max(room, 0), ours)


def others(plans: Iterable[Plan], ours: str) -> PeerWorkers:
    """What other clusters say of a model, seen from the cluster `ours`."""
    counts = [0, 0, 0, 0]
    for plan in plans:
        after = int(plan.cluster > ours)
        counts[after] += max(plan.ready, 0)
        counts[2 + after] += max(plan.loading, 0)
    before, after, loading_before, loading_after = (min(count, MOST) for count in counts)
    return PeerWorkers(
        ready_before=before,
        ready_after=after,
        loading_before=loading_before,
        loading_after=loading_after,
    )


class PeerTrust:
    """Whether we reckon with what others say of one model.

    They may lie, or be cut off from the queue and not from us: either way what they claim must not
    keep us from serving for long.
    """

    def __init__(self) -> None:
        self._claimed_at = 0.0
        self._doubted_until = 0.0

    def believed(
        self, told: PeerWorkers, oldest_wait: float, load: float, now: float
    ) -> PeerWorkers:
        """What to reckon with: what is `told`, or nobody. `load` is what it takes to load."""
        limit = PATIENCE_SECONDS + 2 * load
        if not told.count:
            self._claimed_at = now
        # Who has only just come cannot have brought the queue down yet.
        if min(oldest_wait, now - self._claimed_at) > limit:
            self._doubted_until = now + DOUBT_SECONDS
        return NOBODY if now < self._doubted_until else told
