"""Jobs and workers put together: how a job's end is judged, and whose word counts."""

from typing import Any

import pytest

from headrace.catalogue import model
from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.scaler.fleet import HUNG_SECONDS, SILENT_SECONDS, Fleet, LastHeartbeat
from headrace.scaler.model_state import ModelState
from headrace.scaler.policy.observations import EndedJob, JobOutcome, JobPhase
from headrace.slurm import states
from headrace.slurm.record import Record
from headrace.slurm.squeue import SlurmJob
from tests.unit.scaler.world import FILE

NOW = 1_800_000_000.0
NODE = "gpu7"


def told(state: str, reason: str = "", **more: Any) -> SlurmJob:
    """What squeue says of the job."""
    given: dict[str, Any] = {"submitted_at": NOW - 900}
    if state not in {"PENDING", "REQUEUE_HOLD"} and "starts_at" not in more:
        given |= {"starts_at": NOW - 600, "ends_at": NOW + 6000, "nodes": (NODE,)}
    record = Record("headrace", "north", "m", "ab", "s")
    return SlurmJob(id=7, name="hr-m", state=states.parse(state), reason=reason, record=record,
               **{**given, **more})  # fmt: skip


def beat(phase: WorkerPhase, at: float = NOW, worker: str = "w" * 16, **more: Any) -> LastHeartbeat:
    """What its worker says."""
    return LastHeartbeat(WorkerState(1, "north", "m", worker, phase, 4, 0, job=7, **more), at)


def fleet(life: str) -> Fleet:
    """A fleet of one job that has come so far."""
    made = Fleet()
    made.submitted("s", 7, "ab", NOW - 900)
    made.update([told("PENDING", "Resources")], [], NOW - 800)
    if life != "waiting":
        made.update([told("RUNNING")], [], NOW - 600)
    if life in {"loading", "ready"}:
        made.update([told("RUNNING")], [beat(WorkerPhase.LOADING, NOW - 590)], NOW - 590)
    if life == "ready":
        made.update([told("RUNNING")], [beat(WorkerPhase.READY, NOW - 400)], NOW - 400)
    return made


def end(made: Fleet, *jobs: SlurmJob) -> EndedJob:
    """The end of that job."""
    for _ in range(2):
        ended = made.update(jobs, [], NOW)
        if ended:
            return ended[0]
    pytest.fail("it has not ended")


NEVER_RAN: dict[str, Any] = {"starts_at": None, "nodes": ()}


@pytest.mark.parametrize(
    ("life", "last", "outcome", "node", "reason"),
    [
        # What Slurm would never start: the model's fault, and no node's.
        ("waiting", told("FAILED", "BadConstraints", **NEVER_RAN), JobOutcome.FAILED, "",
         "BadConstraints"),
        # Taken by a person or by Slurm: nobody's fault, wherever it was.
        ("waiting", told("CANCELLED", **NEVER_RAN), JobOutcome.PREEMPTED, "", "CANCELLED"),
        ("starting", told("CANCELLED"), JobOutcome.PREEMPTED, "", "CANCELLED"),
        ("ready", told("CANCELLED"), JobOutcome.PREEMPTED, "", "CANCELLED"),
        ("loading", told("PREEMPTED"), JobOutcome.PREEMPTED, "", "PREEMPTED"),
        ("ready", told("PREEMPTED"), JobOutcome.PREEMPTED, "", "PREEMPTED"),
        ("waiting", told("REVOKED", **NEVER_RAN), JobOutcome.PREEMPTED, "", "REVOKED"),
        ("waiting", told("DEADLINE", "DeadLine", **NEVER_RAN), JobOutcome.PREEMPTED, "",
         "DeadLine"),
        # The node's fault, even where it died before we saw the job there.
        ("waiting", told("BOOT_FAIL"), JobOutcome.FAILED, NODE, "BOOT_FAIL"),
        ("starting", told("FAILED", "JobLaunchFailure"), JobOutcome.FAILED, NODE,
         "JobLaunchFailure"),
        ("starting", told("FAILED", "Prolog"), JobOutcome.FAILED, NODE, "Prolog"),
        ("loading", told("NODE_FAIL", "NodeDown"), JobOutcome.FAILED, NODE, "NodeDown"),
        ("ready", told("NODE_FAIL"), JobOutcome.FAILED, NODE, "NODE_FAIL"),
        # The job's own: it would go wrong anywhere ...
        ("loading", told("OUT_OF_MEMORY", "OutOfMemory"), JobOutcome.FAILED, "", "OutOfMemory"),
        ("ready", told("OUT_OF_MEMORY"), JobOutcome.FAILED, "", "OUT_OF_MEMORY"),
        ("loading", told("TIMEOUT", "TimeLimit"), JobOutcome.FAILED, "", "TimeLimit"),
        ("loading", told("DEADLINE"), JobOutcome.FAILED, "", "DEADLINE"),
        ("loading", told("COMPLETED"), JobOutcome.FAILED, "", "COMPLETED"),
        # ... or perhaps not: a node on which this comes again is avoided.
        ("loading", told("FAILED", "NonZeroExitCode"), JobOutcome.FAILED, NODE, "NonZeroExitCode"),
        ("ready", told("FAILED", "NonZeroExitCode"), JobOutcome.FAILED, NODE, "NonZeroExitCode"),
        # As it should be.
        ("ready", told("TIMEOUT", "TimeLimit"), JobOutcome.DONE, "", "TimeLimit"),
        ("ready", told("COMPLETED"), JobOutcome.DONE, "", "COMPLETED"),
        # Gone without a word.
        ("waiting", None, JobOutcome.FAILED, "", "vanished"),
        ("loading", None, JobOutcome.FAILED, NODE, "vanished"),
        ("ready", None, JobOutcome.DONE, NODE, "vanished"),
    ],
)  # fmt: skip
def test_how_an_end_is_judged(
    life: str, last: SlurmJob | None, outcome: JobOutcome, node: str, reason: str
) -> None:
    ended = end(fleet(life), *([] if last is None else [last]))
    assert (ended.outcome, ended.node, ended.reason) == (outcome, node, reason)
    assert ended.served == (life == "ready")


def test_what_we_end_is_no_failure_unless_it_is_why() -> None:
    for failure, outcome in (("", JobOutcome.DONE), ("not ready after 300 s", JobOutcome.FAILED)):
        made = fleet("loading")
        made.let_go("7", failure)
        ended = end(made, told("CANCELLED"))
        assert ended.outcome is outcome
        assert ended.node == (NODE if failure else "")
        assert ended.reason == (failure or "CANCELLED")


def test_the_workers_own_words_tell_more_than_its_exit_code() -> None:
    made = fleet("loading")
    words = "the engine ended: no such file: /models/x"
    made.update([told("RUNNING")], [beat(WorkerPhase.GONE, reason=words)], NOW)
    assert end(made, told("FAILED", "NonZeroExitCode")).reason == words
    made = fleet("ready")
    made.update([told("RUNNING")], [beat(WorkerPhase.GONE, reason="stopped")], NOW)
    assert end(made, told("NODE_FAIL", "NodeDown")).reason == "NodeDown"


def test_a_job_that_started_before_it_could_be_cancelled_goes_on_and_may_fail() -> None:
    made = fleet("waiting")
    made.let_go("7")
    made.update([told("RUNNING")], [], NOW - 500)
    assert end(made, told("FAILED", "NonZeroExitCode")).outcome is JobOutcome.FAILED


def test_a_job_that_is_queued_again_begins_anew() -> None:
    """Its worker of before was still heard, and is not taken for one that serves."""
    made = fleet("ready")
    before = beat(WorkerPhase.READY, NOW - 300)
    assert made.update([told("PENDING", "BeginTime", starts_at=NOW)], [before], NOW - 299) == []
    known = made.known["s"]
    assert (known.phase, known.node, known.ends_at) == (JobPhase.WAITING, "", 0.0)
    made.update([told("RUNNING", starts_at=NOW - 100, nodes=("gpu8",))], [before], NOW - 99)
    assert (known.phase, known.started_at, known.node) == (JobPhase.LOADING, NOW - 100, "gpu8")
    now = beat(WorkerPhase.READY, NOW, worker="n" * 16)
    made.update([told("RUNNING", starts_at=NOW - 100, nodes=("gpu8",))], [now, before], NOW)
    assert known.phase is JobPhase.READY


def test_a_job_that_slurm_holds_will_not_serve() -> None:
    made = fleet("starting")
    assert made.lost(NOW, 0.0) == []
    made.update([told("REQUEUE_HOLD", "launch failed requeued held")], [], NOW)
    ((known, why),) = made.lost(NOW, 0.0)
    assert (known.name, why) == ("7", "Slurm holds it: launch failed requeued held")


def test_a_worker_that_is_not_heard_any_more_is_lost() -> None:
    made = fleet("ready")
    assert made.lost(NOW - 400 + HUNG_SECONDS, 0.0) == []
    assert [known.name for known, _ in made.lost(NOW - 399 + HUNG_SECONDS, 0.0)] == ["7"]


def test_a_state_that_nobody_knows_changes_nothing() -> None:
    made = fleet("waiting")
    made.update([told("HIBERNATING")], [], NOW)
    assert made.known["s"].phase is JobPhase.WAITING
    assert made.known["s"].started_at == 0.0


def test_slurms_word_on_the_end_of_the_walltime_counts() -> None:
    """With a least walltime the job may get less than it asked for."""
    made = fleet("loading")
    made.update(
        [told("RUNNING", starts_at=NOW - 600, ends_at=NOW + 1200, nodes=(NODE,))],
        [beat(WorkerPhase.READY, ends_at=NOW + 9000)],
        NOW,
    )
    assert made.known["s"].ends_at == NOW + 1200
    keeper = ModelState(model.read(FILE))
    assert keeper.scaling(None, 30.0).walltime_seconds == 4 * 3600
    keeper.fleet = made
    assert keeper.scaling(None, 30.0).walltime_seconds == 1800


def test_a_worker_that_falls_silent_does_not_count_until_it_is_heard_again() -> None:
    """Nor is it missed before we have listened for as long."""
    made = fleet("ready")
    later = made.known["s"].heard_at + SILENT_SECONDS + 1

    def phase(*heard: LastHeartbeat, since: float | None = 0.0) -> JobPhase:
        made.update([told("RUNNING")], heard, later, since)
        return made.known["s"].phase

    assert phase(since=None) is JobPhase.READY
    assert phase(since=later - SILENT_SECONDS) is JobPhase.READY
    assert phase() is JobPhase.SILENT
    assert phase(beat(WorkerPhase.READY, later)) is JobPhase.READY
