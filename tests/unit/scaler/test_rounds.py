"""The scaler's rounds against a fake Slurm and a fake queue, in virtual time.

The fake Slurm is held against the real one in ``tests/integration/test_slurm.py``.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace.protocol.names import Slug
from headrace.protocol.plan import ModelPhase, Plan
from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.runtime.bus import BusError
from headrace.runtime.jetstream import ConsumerInfo, Position
from headrace.runtime.logging import setup
from headrace.scaler.options import ScalerOptions
from headrace.scaler.round import Rounds
from headrace.scaler.workers import Workers
from headrace.slurm import states
from headrace.slurm.fake import FakeSlurm, Fault
from headrace.slurm.fake_job import FakeJob
from headrace.slurm.states import Phase

MODEL = Slug("m")
FILE = """
name = "M"
slug = "m"
slots = 4

[engine]
kind = "command"
command = ["serve", "--socket={socket}"]

[scale]
max = 3
idle_seconds = 120
load_seconds = 30
load_limit_seconds = 300

[job]
time = "04:00:00"
gres = "gpu:1"
"""


class Queue:
    """What the scaler asks of JetStream."""

    def __init__(self) -> None:
        self.waiting = 0
        self.running = 0
        self.delivered = 0
        self.down = False

    async def consumer_info(self, _: Slug, lane: str) -> ConsumerInfo:
        if self.down:
            raise BusError("down")
        if lane != "high":
            return ConsumerInfo()
        return ConsumerInfo(
            num_pending=self.waiting,
            num_ack_pending=self.running,
            delivered=Position(consumer_seq=self.delivered),
        )


class World:
    """A cluster with one scaler, and the clock of both."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000.0
        self.folder = folder
        self.queue = Queue()
        self.slurm = FakeSlurm(lambda: self.now)
        self.workers = Workers("north")
        self.heard = True
        self.mute: set[int] = set()
        self.load_seconds = 30.0
        (folder / "models.d").mkdir()
        (folder / "models.d" / "m.toml").write_text(FILE)
        self.rounds = self.new_scaler()

    def new_scaler(self) -> Rounds:
        options = ScalerOptions(
            cluster="north", models=str(self.folder / "models.d"), state=str(self.folder / "state")
        )
        Path(options.state).mkdir(exist_ok=True)
        queue: Any = self.queue
        return Rounds(
            options, self.slurm, queue, self.workers, setup("test", "error"),
            clock=lambda: self.now,
        )  # fmt: skip

    def jobs(self, *phases: Phase) -> list[FakeJob]:
        """Jobs that are not over, or those in the phases asked for."""
        wanted = phases or (Phase.WAITING, Phase.RUNNING, Phase.ENDING)
        return [
            job
            for job in self.slurm.cluster.jobs.values()
            if states.parse(job.state).phase in wanted
        ]

    def _beat(self) -> None:
        for job in self.jobs(Phase.RUNNING):
            if job.id in self.mute:
                continue
            up = self.now - (job.starts_at or self.now)
            phase = WorkerPhase.READY if up >= self.load_seconds else WorkerPhase.LOADING
            name = f"worker{job.id:010d}"
            state = WorkerState(1, "north", MODEL, name, phase, 4, 0, job=job.id, node="n")
            self.workers.hear(state, self.now)

    def pass_(self, seconds: float, step: float = 5.0) -> Plan:
        """Let time go by, a round every few seconds; the last plan."""
        end = self.now + seconds
        while True:
            self.now = min(self.now + step, end)
            if self.heard:
                self._beat()
            (plan,) = asyncio.run(self.rounds.run(heard=self.heard)) or (None,)
            assert plan is not None
            if self.now >= end:
                return plan

    def submissions(self) -> int:
        return self.slurm.calls.count("sbatch")


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
    assert len(world.jobs(Phase.RUNNING)) == 3
    world.queue.waiting, world.queue.delivered = 0, 200
    world.pass_(1200)
    assert world.jobs() == []
    assert world.submissions() == 3


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.EMPTY, Fault.GARBAGE, Fault.LIE])
def test_a_squeue_that_errs_changes_nothing_that_runs(world: World, fault: Fault) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    (job,) = world.jobs(Phase.RUNNING)
    world.slurm.fault = fault
    world.queue.waiting, world.queue.delivered = 0, 1  # it would be let go by now
    before = world.submissions()
    world.pass_(900)
    assert [each.id for each in world.jobs(Phase.RUNNING)] == [job.id]
    world.queue.waiting = 50
    world.pass_(300)
    assert world.submissions() == before
    world.slurm.fault = Fault.NONE
    world.pass_(120)
    assert job.id in {each.id for each in world.jobs(Phase.RUNNING)}


def test_a_queue_that_cannot_be_read_changes_nothing(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    world.queue.down = True
    world.pass_(1800)
    assert len(world.jobs(Phase.RUNNING)) == 1


def test_workers_that_cannot_be_heard_are_left_alone(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    world.heard = False
    world.queue.waiting, world.queue.delivered = 0, 1
    world.pass_(1800)
    assert len(world.jobs(Phase.RUNNING)) == 1


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
        for job in world.jobs(Phase.RUNNING):
            world.slurm.finish(job.id, exit_code=1)
        if plan.phase is ModelPhase.FAILED:
            break
    else:
        pytest.fail("never given up")
    assert plan.reason
    assert world.submissions() < 10


def test_a_worker_that_hangs_is_replaced(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    (job,) = world.jobs(Phase.RUNNING)
    world.mute.add(job.id)
    world.pass_(300)
    assert job.id not in {each.id for each in world.jobs(Phase.RUNNING)}
    assert len(world.jobs()) == 1


def test_a_model_that_is_taken_away_is_drained(world: World) -> None:
    world.queue.waiting = 1
    world.pass_(120)
    (world.folder / "models.d" / "m.toml").unlink()
    world.queue.waiting, world.queue.delivered = 0, 1
    plan = world.pass_(5)
    assert plan.removed
    assert len(world.jobs(Phase.RUNNING)) <= 1


def test_a_bad_file_is_told_and_harms_no_model(world: World) -> None:
    (world.folder / "models.d" / "bad.toml").write_text("name = \n")
    world.pass_(5)
    assert any("bad.toml" in problem for problem in world.rounds.problems)
    world.queue.waiting = 1
    world.pass_(120)
    assert len(world.jobs(Phase.RUNNING)) == 1


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
    asyncio.run(world.rounds.run(heard=True))
    assert len(world.jobs(Phase.RUNNING)) == 1
    assert "scancel" not in world.slurm.calls
