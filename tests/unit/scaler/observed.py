"""Observations for tests of the policy, made of few words."""

from typing import Any

from hypothesis import strategies as st

from headrace.scaler.policy.observations import JobPhase, ModelJob, Observation
from headrace.scaler.policy.sharing import PeerWorkers

NOW = 1_000_000.0


def seen(
    waiting: int = 0, running: int = 0, *jobs: ModelJob, now: float = NOW, **more: Any
) -> Observation:
    """A fresh observation."""
    given: dict[str, Any] = {
        "arrived": 0,
        "completed": 0,
        "queue_at": now,
        "jobs_at": now,
        "workers_at": now,
    }
    return Observation(waiting=waiting, running=running, jobs=jobs, **{**given, **more})


def job(id: str, phase: JobPhase = JobPhase.READY, **more: Any) -> ModelJob:
    """A job that was submitted a while ago."""
    given: dict[str, Any] = {"submitted_at": NOW - 900}
    if phase is not JobPhase.WAITING:
        given["started_at"] = NOW - 600
    if phase not in {JobPhase.WAITING, JobPhase.LOADING}:
        given["ready_at"] = NOW - 400
    return ModelJob(id=id, phase=phase, **{**given, **more})


phases = st.sampled_from(JobPhase)
ages = st.floats(0, 20_000)


@st.composite
def any_job(draw: st.DrawFn, id: str) -> ModelJob:
    """A job in any phase, with times that fit it."""
    phase = draw(phases)
    age = draw(ages)
    moments = sorted(NOW - age * draw(st.floats(0, 1)) for _ in range(3))
    return ModelJob(
        id=id,
        phase=phase,
        submitted_at=moments[0],
        expected_start=NOW + draw(ages) if draw(st.booleans()) else 0.0,
        started_at=moments[1] if phase is not JobPhase.WAITING else 0.0,
        ready_at=moments[2] if phase in {JobPhase.READY, JobPhase.DRAINING} else 0.0,
        ends_at=NOW + draw(st.floats(-60, 20_000)) if draw(st.booleans()) else 0.0,
        running=draw(st.integers(0, 8)) if phase in {JobPhase.READY, JobPhase.DRAINING} else 0,
    )


@st.composite
def anything(draw: st.DrawFn) -> Observation:
    """Whatever a scaler may see, if it is fresh."""
    jobs = tuple(draw(any_job(str(number))) for number in range(draw(st.integers(0, 6))))
    return seen(
        draw(st.integers(0, 500)),
        draw(st.integers(0, 50)),
        *jobs,
        arrived=draw(st.integers(0, 10_000)),
        completed=draw(st.integers(0, 10_000)),
        elsewhere=PeerWorkers(
            ready_before=draw(st.integers(0, 3)),
            ready_after=draw(st.integers(0, 3)),
            loading_before=draw(st.integers(0, 2)),
            loading_after=draw(st.integers(0, 2)),
        ),
    )
