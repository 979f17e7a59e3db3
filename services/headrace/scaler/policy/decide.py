"""What to do about one model's jobs: a function of plain values, with no I/O and no clock."""

import math
from typing import Final

import msgspec

from headrace.scaler.policy.demand import Demand, need, ours
from headrace.scaler.policy.learned import Learned
from headrace.scaler.policy.observations import JobPhase, ModelJob, Observation
from headrace.scaler.spec import Scaling

CALM_SECONDS: Final = 90.0
"""Jobs that aren't ready are given up only when they weren't needed for so long, or for a tenth of
what it takes to get one."""


SPARE: Final = 1.25
SPARE_SECONDS: Final = 5.0
"""A successor comes earlier by so much: loads differ, few of them may be known, and a little time
of a GPU once in a walltime costs next to nothing."""


class SubmitJob(msgspec.Struct, frozen=True, tag="submit"):
    """Submit one job. `successor_of` is the job whose walltime ends, if that is why."""

    reason: str
    successor_of: str = ""
    avoid: tuple[str, ...] = ()
    """Nodes to exclude."""


class CancelJob(msgspec.Struct, frozen=True, tag="cancel"):
    """End a job that serves nobody."""

    job: str
    reason: str


class DrainJob(msgspec.Struct, frozen=True, tag="drain"):
    """Let a worker finish what it has begun, and end."""

    job: str
    reason: str


Action = SubmitJob | CancelJob | DrainJob


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted, why, and what to do now."""

    desired: int
    """Workers wanted, those on the way included."""
    needed: int
    """Of those, the ones that work asks for; the rest is kept because starting again costs more."""
    reason: str
    actions: tuple[Action, ...] = ()
    blocked: str = ""
    """Why nothing is submitted although more is desired."""
    failed: str = ""
    """Why the model is marked failed."""


def observe(seen: Observation, spec: Scaling, learned: Learned, now: float) -> Decision:
    """Learn from `seen`, then decide: what the shell calls once per round."""
    learned.learn(seen, spec, now)
    if seen.stale(now, spec.stale_seconds):
        return decide(seen, spec, learned, now)
    want = need(seen, spec, learned, now)
    learned.needed(want.total, spec, now)
    this = _Round(seen, spec, learned, now, want)
    decision = this.decision()
    learned.standing = this.standing
    return decision


def decide(seen: Observation, spec: Scaling, learned: Learned, now: float) -> Decision:
    """The decision on `seen`; changes nothing."""
    stale = seen.stale(now, spec.stale_seconds)
    if stale:
        there = min(max(len(seen.jobs), spec.min), spec.max)
        return Decision(desired=there, needed=there, reason=f"the {stale} reading is stale")
    return _Round(seen, spec, learned, now, need(seen, spec, learned, now)).decision()


class _Round:
    """One decision in the making."""

    def __init__(
        self, seen: Observation, spec: Scaling, learned: Learned, now: float, want: Demand
    ) -> None:
        self.seen = seen
        self.waiting = seen.waiting
        self.spec = spec
        self.learned = learned
        self.now = now
        self.want = want
        self.figures = learned.figures(spec)
        self.held = self._held()
        self.ready = seen.of(JobPhase.READY)
        coming = seen.of(JobPhase.LOADING, JobPhase.WAITING)
        self.hopeless = [job for job in coming if self._hopeless(job)]
        self.coming = [job for job in coming if job not in self.hopeless]
        self.ahead = self._successor_ahead()
        leaves = now + self.ahead + spec.leaves_seconds
        self.ageing = [job for job in self.ready if job.ends_at and job.ends_at < leaves]
        self.lasting = len(self.ready) - len(self.ageing)
        self.standing = max(len(self.ready), min(learned.standing, self.held))
        # A worker that idles has a successor if it would still be kept when its walltime ends, and
        # one that is lost while it is kept has one as well.
        replace = spec.successor and (self.ageing or self.standing > len(self.ready))
        self.held_then = min(self._held(self.ahead), self.standing) if replace else 0

    def decision(self) -> Decision:
        """The whole of it."""
        want, failures = self.want, self.learned.failures
        submits, blocked = self._more()
        desired = max(want.workers, min(self.held, len(self.ready)))
        given_up = failures.given_up(self.spec) and not self.ready
        limit = f"not ready after {self.spec.load_limit_seconds:.0f} s"
        return Decision(
            desired=desired,
            needed=want.workers,
            reason=want.reason if desired == want.workers else "kept warm",
            actions=(
                *(CancelJob(job.id, limit) for job in self.hopeless),
                *self._fewer(),
                *submits,
            ),
            blocked=blocked,
            failed=failures.last.reason if failures.last and given_up else "",
        )

    def _held(self, ahead: float = 0.0) -> int:
        """How many of ours are worth keeping, though nothing needs them, for `ahead` seconds more:
        our part of the highest level that is."""
        for level in range(len(self.learned.levels.needed_at), 0, -1):
            idle = self.now + ahead - self.learned.levels.needed_at[level - 1]
            if self.learned.keeps(level, idle, self.figures, self.spec):
                return self._ours(level)
        return 0

    def _ours(self, total: int) -> int:
        return min(ours(total, self.seen), self.spec.max)

    def _hopeless(self, job: ModelJob) -> bool:
        return 0 < job.started_at < self.now - self.spec.load_limit_seconds

    def _successor_ahead(self) -> float:
        """How long before a worker leaves its successor must be submitted.

        The newsvendor's answer: a successor that comes too early costs its GPU time, one that
        comes too late leaves requests waiting: as many as come in half a lead time beyond what the
        other workers serve, and at least half a worker's slots of them. The lead is the quantile
        of queue wait and load time at which the two are in balance.
        """
        if not self.spec.successor:
            return 0.0
        figures, slots = self.figures, self.spec.slots
        beyond = self.learned.forecast.rate - (len(self.ready) - 1) * slots / figures.service
        late = max(slots / 2, beyond * figures.lead / 2) / self.spec.patience
        fraction = late / (late + 1)
        load = self.learned.load.quantile(fraction, self.spec.load_seconds)
        ahead = (load + self.learned.wait.quantile(fraction, 0.0)) * SPARE + SPARE_SECONDS
        # Where walltimes are shorter than that, half of one: or successors would have successors.
        return min(ahead, self.spec.walltime_seconds / 2 or ahead)

    def _fewer(self) -> list[Action]:
        """Give up jobs: those that wait first, then those that load; then drain ready ones."""
        calm = max(CALM_SECONDS, self.figures.lead / 10)
        recent = self._ours(sum(self.now - at < calm for at in self.learned.levels.needed_at))
        missing = max(max(self.want.workers, recent, self.held_then) - self.lasting, 0)
        newest = sorted(self.coming, key=lambda job: (job.started_at > 0, -job.submitted_at))
        actions: list[Action] = [
            CancelJob(job.id, "no longer needed") for job in newest[: max(len(newest) - missing, 0)]
        ]
        # While requests wait nobody who serves is sent away.
        surplus = len(self.ready) - max(self.want.workers, self.held) if not self.waiting else 0
        leaving = sorted(self.ready, key=lambda job: (job.ends_at or math.inf, job.running))
        return actions + [
            DrainJob(job.id, "no longer needed") for job in leaving[: max(surplus, 0)]
        ]

    def _more(self) -> tuple[list[SubmitJob], str]:
        """Submissions, and why there are fewer than asked for."""
        wanted = max(self.want.workers, self.held_then)
        missing = wanted - self.lasting - len(self.coming)
        if missing <= 0:
            return [], ""
        failures = self.learned.failures
        until = failures.wait_until(self.spec)
        if self.now < until:
            seconds = until - self.now
            return [], f"{failures.in_a_row} failures in a row: next try in {seconds:.0f} s"
        allowed = self.spec.submissions_per_minute
        allowed -= sum(self.now - at < 60 for at in self.learned.submitted)
        if failures.in_a_row:
            # One job tells whether it works again.
            allowed = min(allowed, 1 - len(self.coming))
        avoid = failures.nodes_to_avoid(self.now)
        old = [job.id for job in self.ageing]
        whose = [*old, *([""] * missing)][: max(min(missing, allowed), 0)]
        submits = [SubmitJob("successor" if of else self.want.reason, of, avoid) for of in whose]
        return submits, "" if len(submits) == missing else "enough submissions for now"
