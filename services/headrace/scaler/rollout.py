"""Replacing the jobs of an older generation of a model's file, without a gap.

The policy knows nothing of generations. A worker of an older one is shown to it as one whose
walltime is over: where there is work for it, it gets a successor. It is shown as one that has only
just begun, too, for that it serves proves nothing of the new generation. When a job of that serves,
an older worker goes. Older jobs that wait in Slurm are not shown, so that they are submitted anew;
those that load are left to, for their place in the cluster may be hard to get.
"""

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from headrace.scaler.fleet import KnownJob
from headrace.scaler.policy.decide import CancelJob, DrainJob
from headrace.scaler.policy.observations import JobPhase, ModelJob

REASON: Final = "an older version of the model"


class Rollout(NamedTuple):
    """What the policy is shown, and what is done besides its own actions."""

    jobs: tuple[ModelJob, ...]
    actions: tuple[CancelJob | DrainJob, ...]


def renew(fleet: Iterable[KnownJob], generation: str, now: float) -> Rollout:
    """Sort the jobs of a model whose file is of `generation`. Notes in `fleet` who is to go."""
    known = list(fleet)
    older = [each for each in known if each.spec_hash != generation]
    serving = [each for each in older if each.phase is JobPhase.READY and not each.retired]
    serving.sort(key=lambda each: (each.ends_at or math.inf, each.running))
    for each in known:
        if each.spec_hash == generation and each.phase is JobPhase.READY and each.relieves:
            each.relieves = False
            if serving:
                serving.pop(0).retired = True
    waiting = [each for each in older if each.phase is JobPhase.WAITING]
    retired = [each for each in older if each.phase is JobPhase.READY and each.retired]
    jobs = [each.job for each in known if each not in waiting and each not in retired]
    names = {each.name for each in serving}
    return Rollout(
        tuple(
            msgspec.structs.replace(job, ready_at=now, ends_at=now - 1) if job.id in names else job
            for job in jobs
        ),
        (
            *(CancelJob(each.name, REASON) for each in waiting),
            *(DrainJob(each.name, REASON) for each in retired),
        ),
    )
