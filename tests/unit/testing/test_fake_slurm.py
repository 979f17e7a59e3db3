"""The fake Slurm: a story takes no time, and comes out the same every time."""

from typing import Any

import pytest

from headrace.slurm import record, script
from headrace.slurm.client import Slurm
from headrace.slurm.record import Record
from headrace.slurm.sbatch import SubmitOutcome
from headrace.slurm.spec import JobSpec
from headrace.slurm.states import Cause, JobState, SlurmPhase
from headrace.testing.fake_cluster import FakeOptions
from headrace.testing.fake_job import FakeJob
from headrace.testing.fake_slurm import FakeSlurm, Fault

pytestmark = pytest.mark.anyio
START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Story:
    """A fake Slurm, and what its jobs do."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.told: list[tuple[float, str, int]] = []
        self.slurm = FakeSlurm(self.clock, FakeOptions(**options), self, self.clock.sleep)
        checked: Slurm = self.slurm
        assert checked is self.slurm

    def started(self, job: FakeJob) -> None:
        self.told.append((self.clock.now - START, "started", job.id))

    def signalled(self, job: FakeJob) -> None:
        self.told.append((self.clock.now - START, "signalled", job.id))

    def ended(self, job: FakeJob) -> None:
        self.told.append((self.clock.now - START, "ended", job.id))

    async def submit(self, **fields: Any) -> int:
        spec = JobSpec(**({"gres": "gpu:4", "time": "10"} | fields))
        job = Record("site-a", "c1", "m", spec.hash, record.new_submission())
        submission = await self.slurm.submit(script.render(spec, ["worker"], job))
        assert submission.outcome is SubmitOutcome.ACCEPTED, submission.reason
        return submission.job

    async def at(self, seconds: float) -> dict[int, str]:
        """Each job's state and reason at that time."""
        self.clock.now = START + seconds
        snapshot = await self.slurm.jobs()
        assert snapshot.trusted
        return {job.id: f"{job.state.main} {job.reason}".strip() for job in snapshot.jobs}

    async def starts(self) -> dict[int, float | None]:
        return {
            job.id: None if job.starts_at is None else job.starts_at - START
            for job in (await self.slurm.jobs()).jobs
        }


async def test_jobs_start_run_and_end() -> None:
    story = Story()
    job = await story.submit()
    assert await story.at(0) == {job: "PENDING"}
    assert await story.at(1) == {job: "RUNNING"}
    story.slurm.finish(job, 0)
    assert await story.at(2) == {job: "COMPLETED"}
    assert await story.at(302) == {}
    assert story.told == [(1, "started", job), (1, "ended", job)]


async def test_a_full_cluster_says_when() -> None:
    story = Story(nodes=2)
    jobs = [await story.submit() for _ in range(5)]
    assert list((await story.at(1)).values()) == [
        "RUNNING",
        "RUNNING",
        "PENDING Resources",
        "PENDING Priority",
        "PENDING Priority",
    ]
    assert list((await story.starts()).values()) == [1, 1, 601, 601, 1201]
    assert (await story.slurm.start_estimates()).jobs[0].id == jobs[2]


async def test_two_small_jobs_share_a_node() -> None:
    story = Story(nodes=1)
    for _ in range(2):
        await story.submit(gres="gpu:2", cpus_per_task=4)
    assert list((await story.at(1)).values()) == ["RUNNING", "RUNNING"]


async def test_walltime() -> None:
    story = Story(drain_seconds=None)
    job = await story.submit(time="1", signal_seconds=20)
    assert await story.at(60.9) == {job: "RUNNING"}
    assert await story.at(61) == {job: "COMPLETING TimeLimit"}
    assert await story.at(66) == {job: "TIMEOUT TimeLimit"}
    assert [what for _, what, _ in story.told] == ["started", "signalled", "signalled", "ended"]


async def test_preemption_with_grace() -> None:
    story = Story(nodes=2, drain_seconds=None)
    again = await story.submit(requeue=True)
    gone = await story.submit()
    await story.at(2)
    high = [await story.submit(partitions=("high",)) for _ in range(2)]
    await story.at(3)
    assert story.told[2:] == [(3, "signalled", again), (3, "signalled", gone)]
    assert (await story.at(22.9))[again] == "RUNNING"
    assert (await story.at(23))[gone] == "COMPLETING"
    states = await story.at(28)
    assert (states[again], states[gone]) == ("PENDING BeginTime", "PREEMPTED")
    assert [states[job] for job in high] == ["RUNNING", "RUNNING"]
    (job,) = [job for job in (await story.slurm.jobs()).jobs if job.id == again]
    assert (job.restarts, job.starts_at, job.nodes) == (1, START + 28 + 120, ())


async def test_a_worker_that_drains_within_the_grace_has_ended_well() -> None:
    story = Story(nodes=1, drain_seconds=3.0)
    low = await story.submit(requeue=True)
    await story.at(2)
    high = await story.submit(partitions=("high",))
    assert (await story.at(6))[low] == "COMPLETED"
    assert (await story.at(6))[high] == "RUNNING"


async def test_a_node_that_is_lost() -> None:
    story = Story(nodes=2)
    again, gone = await story.submit(requeue=True), await story.submit()
    await story.at(1)
    for node in ("gpu1", "gpu2"):
        story.slurm.cluster.lose_node(node)
    assert list((await story.at(10.9)).values()) == ["RUNNING", "RUNNING"]
    states = await story.at(11)
    assert states[gone] == "NODE_FAIL NodeDown"
    assert states[again].startswith("PENDING")
    assert not any(node.usable for node in (await story.slurm.nodes()).nodes)
    for node in ("gpu1", "gpu2"):
        story.slurm.cluster.restore_node(node)
    assert (await story.at(200))[again] == "RUNNING"


async def test_cancel_drain_hold_and_requeue() -> None:
    story = Story(nodes=2)
    jobs = [await story.submit() for _ in range(4)]
    await story.at(1)
    slurm = story.slurm
    await slurm.cancel_waiting(jobs)
    states = await story.at(1)
    assert [states[job] for job in jobs[:2]] == ["RUNNING", "RUNNING"]
    assert [states[job].split()[0] for job in jobs[2:]] == ["CANCELLED", "CANCELLED"]
    await slurm.requeue(jobs[0])
    await slurm.hold(jobs[0])
    await slurm.drain([jobs[1], 999])
    states = await story.at(500)
    assert states[jobs[0]] == "PENDING JobHeldUser"
    await slurm.release(jobs[0])
    assert (await story.at(501))[jobs[0]] == "RUNNING"
    assert (await slurm.detail(jobs[0])).restarts == 1
    assert (await slurm.detail(999)).problem


async def test_a_crash() -> None:
    story = Story()
    job = await story.submit()
    await story.at(1)
    story.slurm.finish(job, 9)
    (told,) = (await story.slurm.jobs()).jobs
    assert (told.cause, told.reason) == (Cause.FAILED, "NonZeroExitCode")
    assert (await story.slurm.detail(job)).exit_code == 9


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.HANG, Fault.EMPTY, Fault.GARBAGE])
async def test_squeue_goes_wrong(fault: Fault) -> None:
    story = Story()
    job = await story.submit()
    await story.at(1)
    slurm = story.slurm
    slurm.fault = fault
    snapshot = await slurm.jobs()
    assert not snapshot.trusted
    assert snapshot.jobs == ()
    assert (await slurm.cancel([job])).problem
    assert (await slurm.ping()).problem
    assert (await slurm.nodes()).problem
    assert (await slurm.partitions()).problem
    assert (await slurm.detail(job)).problem
    assert (story.clock.now - START >= 30) is (fault is Fault.HANG)
    slurm.fault = Fault.NONE
    assert (await slurm.jobs()).jobs[0].phase is SlurmPhase.RUNNING


async def test_squeue_lies() -> None:
    story = Story()
    await story.submit()
    story.slurm.fault = Fault.LIE
    snapshot = await story.slurm.jobs()
    assert snapshot.trusted
    assert snapshot.jobs == ()


@pytest.mark.parametrize(
    ("fault", "outcome", "jobs"),
    [
        (Fault.REFUSE, SubmitOutcome.REFUSED, 0),
        (Fault.DOWN, SubmitOutcome.BUSY, 0),
        (Fault.HANG, SubmitOutcome.UNSURE, 0),
        (Fault.LOST, SubmitOutcome.UNSURE, 1),
        (Fault.GARBAGE, SubmitOutcome.UNSURE, 0),
    ],
)
async def test_sbatch_goes_wrong(fault: Fault, outcome: SubmitOutcome, jobs: int) -> None:
    story = Story()
    story.slurm.sbatch_fault = fault
    spec = JobSpec()
    job = Record("site-a", "c1", "m", spec.hash, record.new_submission())
    submission = await story.slurm.submit(script.render(spec, ["worker"], job))
    assert submission.outcome is outcome
    found = (await story.slurm.jobs()).jobs
    assert len(found) == jobs
    # a job whose answer was lost is known again by its submission
    assert all(each.record == job for each in found)


async def test_limits_and_what_no_node_has() -> None:
    story = Story(max_jobs=2, max_running=1)
    first, second = await story.submit(), await story.submit()
    assert await story.at(1) == {first: "RUNNING", second: "PENDING QOSMaxJobsPerUserLimit"}
    assert (await story.slurm.submit("#!/bin/sh\n")).outcome is SubmitOutcome.BUSY
    roomy = Story()
    for line in ("--gres=gpu:9", "--partition=nope", "--nodes=9", "--cpus-per-task=99"):
        submission = await roomy.slurm.submit(f"#!/bin/sh\n#SBATCH {line}\n")
        assert submission.outcome is SubmitOutcome.REFUSED, line


async def test_a_day_is_over_in_no_time_and_is_the_same_every_time() -> None:
    async def day() -> list[tuple[float, str, int]]:
        story = Story(drain_seconds=5.0)
        for minute in range(0, 24 * 60, 10):
            await story.at(minute * 60)
            await story.submit(time="30", requeue=bool(minute % 3))
            if minute % 120 == 0:
                await story.submit(time="20", partitions=("high",), nodes=4)
        states = await story.at(26 * 3600)
        assert not {state for state in states.values() if state == JobState.PENDING}
        return story.told

    first = await day()
    assert len(first) > 300
    assert await day() == first
