"""The scaler's rounds against a fake Slurm and a fake queue, in virtual time."""

import asyncio
import os
from pathlib import Path

import pytest

from headrace.catalogue import status
from headrace.protocol.plan import ModelPhase
from headrace.scaler.workers import Workers
from headrace.slurm.states import SlurmPhase
from headrace.testing.fake_cluster import FakeOptions
from headrace.testing.fake_slurm import Fault
from tests.unit.scaler.world import MODEL, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_is_started_for_nobody(world: World) -> None:
    plan = world.pass_(300)
    assert world.submissions() == 0
    assert plan.phase is ModelPhase.COLD
    assert plan.facts.name == "M"


def test_the_first_request_starts_a_job_at_once_and_silence_ends_it(world: World) -> None:
    world.pass_(60)
    world.queue.waiting = 1
    plan = world.pass_(1, step=1)
    assert world.submissions() == 1
    assert plan.phase is ModelPhase.PENDING
    plan = world.pass_(20)
    assert plan.phase is ModelPhase.LOADING
    plan = world.pass_(30)
    assert plan.phase is ModelPhase.READY
    world.queue.waiting, world.queue.delivered = 0, 1
    world.pass_(100)
    assert len(world.jobs()) == 1
    world.pass_(300)
    assert world.jobs() == []
    assert world.submissions() == 1


def test_a_burst_goes_to_the_maximum_and_back_without_flapping(world: World) -> None:
    world.queue.waiting = 200
    world.pass_(600)
    assert len(world.jobs(SlurmPhase.RUNNING)) == 3
    world.queue.waiting, world.queue.delivered = 0, 200
    world.pass_(1200)
    assert world.jobs() == []
    assert world.submissions() == 3


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.EMPTY, Fault.GARBAGE, Fault.LIE])
def test_a_squeue_that_errs_changes_nothing_that_runs(world: World, fault: Fault) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    (job,) = world.jobs(SlurmPhase.RUNNING)
    world.slurm.fault = fault
    world.queue.waiting, world.queue.delivered = 0, 1  # it would be let go by now
    before = world.submissions()
    world.pass_(900)
    assert [each.id for each in world.jobs(SlurmPhase.RUNNING)] == [job.id]
    world.queue.waiting = 50
    world.pass_(300)
    assert world.submissions() == before
    world.slurm.fault = Fault.NONE
    world.pass_(120)
    assert job.id in {each.id for each in world.jobs(SlurmPhase.RUNNING)}


def test_a_queue_that_cannot_be_read_changes_nothing(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    world.queue.down = True
    world.pass_(1800)
    assert len(world.jobs(SlurmPhase.RUNNING)) == 1


def test_workers_that_cannot_be_heard_are_left_alone(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    world.heard = False
    world.queue.waiting, world.queue.delivered = 0, 1
    world.pass_(1800)
    assert len(world.jobs(SlurmPhase.RUNNING)) == 1


def test_a_lost_answer_of_sbatch_is_no_second_job(world: World) -> None:
    world.slurm.sbatch_fault = Fault.LOST
    world.queue.waiting = 1
    world.pass_(1, step=1)
    world.slurm.sbatch_fault = Fault.NONE
    world.pass_(120)
    assert len(world.slurm.cluster.jobs) == 1


def test_a_new_scaler_knows_its_jobs_again(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    world.rounds = world.new_scaler()
    plan = world.pass_(60)
    assert world.submissions() == 1
    assert plan.phase is ModelPhase.READY


def test_a_job_that_dies_again_and_again_is_given_up_with_its_reason(world: World) -> None:
    world.queue.waiting = 1
    for _ in range(600):
        plan = world.pass_(30)
        for job in world.jobs(SlurmPhase.RUNNING):
            world.slurm.finish(job.id, exit_code=1)
        if plan.phase is ModelPhase.FAILED:
            break
    else:
        pytest.fail("never given up")
    assert plan.reason
    assert world.submissions() < 10


def test_a_job_that_never_serves_has_failed(world: World) -> None:
    world.load_seconds = 10_000
    world.queue.waiting = 1
    world.pass_(400)
    failures = world.rounds.keepers[MODEL].learned.failures
    assert failures.last is not None
    assert (failures.last.reason, failures.last.node) == ("not ready after 300 s", "gpu1")


def test_when_what_failed_everywhere_is_well_again_there_are_nodes_left(tmp_path: Path) -> None:
    world = World(tmp_path, options=FakeOptions(nodes=2))
    world.queue.waiting = 1
    for _ in range(300):
        world.pass_(10)
        for job in world.jobs(SlurmPhase.RUNNING):
            world.slurm.finish(job.id, exit_code=1)
    assert world.rounds.keepers[MODEL].phase is ModelPhase.FAILED
    world.pass_(3700)
    assert len(world.jobs(SlurmPhase.RUNNING)) == 1


def test_a_worker_that_hangs_is_replaced(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    (job,) = world.jobs(SlurmPhase.RUNNING)
    world.mute.add(job.id)
    world.pass_(300)
    assert job.id not in {each.id for each in world.jobs(SlurmPhase.RUNNING)}
    assert len(world.jobs()) == 1


def test_a_model_that_is_taken_away_is_drained(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    (world.folder / "models.d" / "m.toml").unlink()
    world.queue.waiting, world.queue.delivered = 0, 1
    plan = world.pass_(5)
    assert plan.removed
    assert len(world.jobs(SlurmPhase.RUNNING)) <= 1


def test_the_status_tells_who_writes_it(world: World) -> None:
    world.pass_(5)
    told = status.read(world.folder / "state" / "status.json")
    assert told.pid == os.getpid()
    assert told.written == told.slurm_at == world.now


@pytest.mark.parametrize("mute", [False, True])
def test_a_job_whose_model_went_while_nobody_looked_ends(tmp_path: Path, mute: bool) -> None:
    """It drains; where no worker is heard, SIGTERM may have reached nobody, and it is cancelled."""
    world = World(tmp_path, options=FakeOptions(drain_seconds=None))
    world.queue.waiting = 1
    world.pass_(120)
    (job,) = world.jobs(SlurmPhase.RUNNING)
    (world.folder / "models.d" / "m.toml").unlink()
    world.workers = Workers("north")
    world.rounds = world.new_scaler()
    world.mute = {job.id} if mute else set()
    for _ in range(20):
        world.beat(5)
        asyncio.run(world.rounds.run(listening_since=0.0))
    assert bool(world.jobs()) is not mute


def test_metrics_tell_what_is_there_and_what_was_done(world: World) -> None:
    world.pass_(5)
    assert world.metric("submissions_total", outcome="accepted") == 0
    world.queue.waiting = 1
    world.pass_(20)
    assert world.metric("desired") == world.metric("needed") == 1
    assert world.metric("jobs", phase="loading") == 1
    assert (world.metric("waiting"), world.metric("oldest_wait_seconds")) == (1, 15)
    world.pass_(60)
    assert (world.metric("jobs", phase="loading"), world.metric("jobs", phase="ready")) == (0, 1)
    world.queue.waiting, world.queue.delivered = 0, 1
    world.pass_(600)
    assert world.metric("submissions_total", outcome="accepted") == 1
    assert world.metric("drains_total") == world.metric("jobs_ended_total", outcome="done") == 1
    world.slurm.fault = Fault.DOWN
    world.pass_(50)
    sample = world.registry.get_sample_value
    assert sample("headrace_scaler_squeue_errors_total", {"cluster": "north"}) == 10
    assert sample("headrace_scaler_squeue_age_seconds", {"cluster": "north"}) == 50
    assert sample("headrace_scaler_problems", {"cluster": "north"}) == 1
    world.slurm.fault = Fault.NONE
    (world.folder / "models.d" / "m.toml").unlink()
    world.pass_(5)
    assert world.metric("desired") is world.metric("drains_total") is None


def test_a_bad_file_is_told_and_harms_no_model(world: World) -> None:
    (world.folder / "models.d" / "bad.toml").write_text("name = \n")
    world.pass_(5)
    assert any("bad.toml" in problem for problem in world.rounds.problems)
    world.queue.waiting = 1
    world.pass_(120)
    assert len(world.jobs(SlurmPhase.RUNNING)) == 1


def test_a_client_that_would_not_wait_wakes_the_model_all_the_same(world: World) -> None:
    world.pass_(5)
    world.rounds.keepers[MODEL].turned_away_at = world.now
    plan = world.pass_(20)
    assert world.submissions() == 1
    assert plan.worker_slots == 4


def test_jobs_whose_file_is_bad_just_now_are_left_alone(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    (world.folder / "models.d" / "m.toml").write_text("name = ")
    world.rounds = world.new_scaler()
    world.now += 5
    asyncio.run(world.rounds.run(listening_since=0.0))
    assert len(world.jobs(SlurmPhase.RUNNING)) == 1
    assert "scancel" not in world.slurm.calls
