"""A real Slurm of four pretended nodes: the client, the batch script, the fake, and what breaks."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from headrace.devcluster.cluster import LocalSlurm
from headrace.devcluster.local import HIGH, LocalOptions
from headrace.slurm import client, record, script
from headrace.slurm.client import Slurm, SlurmClient
from headrace.slurm.commands import Commands
from headrace.slurm.record import Record
from headrace.slurm.sbatch import SubmitOutcome
from headrace.slurm.spec import JobSpec
from headrace.slurm.states import Cause, JobState, SlurmPhase
from headrace.testing.fake_cluster import FakeOptions
from headrace.testing.fake_job import FakeJob
from headrace.testing.fake_slurm import FakeSlurm
from tests.support import processes
from tests.support.slurm_kit import StartSlurm

pytestmark = [pytest.mark.anyio, pytest.mark.slurm, pytest.mark.timeout(300)]

GRACE = 3
OPTIONS = LocalOptions(grace_seconds=GRACE, kill_wait=2)
# Notes what it hears and goes on, or ends as a worker that drains would.
STUBBORN = "trap 'echo TERM' TERM; echo here; while :; do sleep 0.1; done"
POLITE = "trap 'echo TERM; exit 0' TERM; echo here; while :; do sleep 0.1; done"
SHORT = "sleep 2"
WAIT_SECONDS = 60.0


def render(command: list[str], **fields: Any) -> tuple[str, Record]:
    spec = JobSpec(**({"gres": "gpu:4", "time": "10"} | fields))
    job = Record("site-a", "c1", "m", spec.hash, record.new_submission())
    return script.render(spec, command, job), job


class Submit(Protocol):
    async def __call__(self, command: str, **fields: Any) -> int: ...


def submitter(slurm: Slurm) -> Submit:
    async def submit(command: str, **fields: Any) -> int:
        text, _ = render(["/bin/bash", "-c", command], **fields)
        submission = await slurm.submit(text)
        assert submission.outcome is SubmitOutcome.ACCEPTED, submission.reason
        return submission.job

    return submit


async def until(
    slurm: SlurmClient, wanted: dict[int, JobState], seconds: float = WAIT_SECONDS
) -> None:
    """Wait until these jobs are in these states."""
    deadline = time.monotonic() + seconds
    while True:
        snapshot = await slurm.jobs()
        found = {job.id: job.state.main for job in snapshot.jobs if job.id in wanted}
        if found == wanted:
            return
        assert time.monotonic() < deadline, f"{found} is not {wanted}; {snapshot.problem}"
        await asyncio.sleep(0.1)


async def test_the_life_of_a_job(slurm: LocalSlurm) -> None:
    real = client.local(slurm.environ)
    log = slurm.root / "job-%j.log"
    command = ["/bin/bash", "-c", 'env; echo "[$1]"; exit 7', "sh", "a b'$(id)\n*"]
    text, job = render(command, output=str(log), prologue=("export SITE=prologue",))
    submission = await real.submit(text)
    assert submission.outcome is SubmitOutcome.ACCEPTED
    await until(real, {submission.job: JobState.FAILED})
    (told,) = (await real.jobs()).jobs
    assert told.record == job
    assert told.model == "m"
    assert (told.cause, told.reason) == (Cause.FAILED, "NonZeroExitCode")
    assert (told.nodes, told.time_limit) == (("gpu1",), 600)
    assert told.starts_at is not None
    assert abs(told.starts_at - time.time()) < 60
    detail = await real.detail(submission.job)
    assert (detail.exit_code, detail.requeue) == (7, False)
    told_by_job = read(slurm.root / f"job-{submission.job}.log")
    assert "[a b'$(id)\n*]" in told_by_job
    lines = told_by_job.splitlines()
    assert "SITE=prologue" in lines
    assert f"HEADRACE_SUBMISSION={job.submission}" in lines
    # the walltime's end as it was while the job ran
    (ends_at,) = [line for line in lines if line.startswith("HEADRACE_WORKER__ENDS_AT=")]
    assert abs(float(ends_at.partition("=")[2]) - told.starts_at - 600) < 5
    # nothing of ours for reading Slurm has come along, nor this process's own variables
    assert not any(line.startswith(("SLURM_TIME_FORMAT=", "TZ=", "PYTEST_")) for line in lines)


async def test_no_jobs_nodes_partitions_and_a_controller(slurm: LocalSlurm) -> None:
    real = client.local(slurm.environ)
    snapshot = await real.jobs()
    assert snapshot.trusted
    assert snapshot.jobs == ()
    nodes = await real.nodes()
    assert [(node.name, node.gpus, node.usable) for node in nodes.nodes] == [
        (name, 4, True) for name in slurm.nodes
    ]
    partitions = (await real.partitions()).partitions
    assert {each.name: (each.tier, each.nodes_idle) for each in partitions} == {
        "low": (1, 4),
        "high": (10, 4),
    }
    assert (await real.ping()).up


async def test_an_account_that_squeue_does_not_know_is_no_empty_queue(slurm: LocalSlurm) -> None:
    lying = SlurmClient(Commands({**os.environ, **slurm.environ}, "nobody-here"))
    snapshot = await lying.jobs()
    assert not snapshot.trusted
    assert "Invalid user" in snapshot.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
async def test_another_account_submits_and_sees_its_own(slurm: LocalSlurm) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        ["runuser", "-u", "nobody", "--", "sbatch", "--parsable"],
        input="#!/bin/sh\n#SBATCH --output=/dev/null --chdir=/\nsleep 60\n",
        env={"PATH": "/usr/sbin:/usr/bin:/bin", **slurm.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = SlurmClient(Commands({**os.environ, **slurm.environ}, "nobody"))
    assert [job.id for job in (await theirs.jobs()).jobs] == [int(done.stdout)]
    assert (await client.local(slurm.environ).jobs()).jobs == ()


async def test_refusals_are_told_apart(slurm: LocalSlurm) -> None:
    real = client.local(slurm.environ)
    for line, reason in [
        ("--partition=nope", "Invalid partition"),
        ("--gres=gpu:9", "not available"),
        ("--time=x", "Invalid --time"),
    ]:
        submission = await real.submit(f"#!/bin/sh\n#SBATCH {line}\n#SBATCH --chdir=/\n")
        assert submission.outcome is SubmitOutcome.REFUSED
        assert reason in submission.reason
    # Slurm keeps a record of one of them; it never ran
    assert {job.cause for job in (await real.jobs()).jobs} <= {Cause.REFUSED}


async def test_draining_leaves_what_waits_and_cancelling_waiters_leaves_what_runs(
    slurm: LocalSlurm,
) -> None:
    real = client.local(slurm.environ)
    submit = submitter(real)
    log = str(slurm.root / "%j.log")
    running = [await submit(POLITE, output=log) for _ in range(4)]
    waiting = [await submit(POLITE) for _ in range(2)]
    await until(real, dict.fromkeys(running, JobState.RUNNING))
    await said(slurm.root / f"{running[0]}.log", "here")
    # The expected start is told with the jobs, and apart, once the backfill scheduler has looked.
    deadline = time.monotonic() + WAIT_SECONDS
    for asked in (real.jobs, real.start_estimates):
        while True:
            starts = {job.id: job.starts_at for job in (await asked()).jobs if job.id in waiting}
            if all(at is not None and at > time.time() + 500 for at in starts.values()):
                break
            assert time.monotonic() < deadline, starts
            await asyncio.sleep(0.2)
    assert (await real.drain([running[0], waiting[1]])).problem == ""
    assert (await real.cancel_waiting([waiting[1], running[1]])).problem == ""
    await until(
        real,
        {
            running[0]: JobState.COMPLETED,
            running[1]: JobState.RUNNING,
            waiting[0]: JobState.RUNNING,
            waiting[1]: JobState.CANCELLED,
        },
    )
    assert (await real.cancel([running[1], 99_999])).problem == ""
    await until(real, {running[1]: JobState.CANCELLED})


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def said(file: Path, text: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while text not in read(file):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_preempted_worker_is_told_a_grace_time_before(start_slurm: StartSlurm) -> None:
    slurm = start_slurm(LocalOptions(grace_seconds=GRACE, kill_wait=2, preempt="CANCEL", nodes=1))
    real = client.local(slurm.environ)
    submit = submitter(real)
    note = "echo $(date +%s.%N) >>"
    root = slurm.root
    # Its child has a session of its own, as an engine may: it is told all the same.
    wait = "while :; do sleep 0.1; done"
    child = f"setsid bash -c \"trap '{note} {root}/child' TERM; echo there; {wait}\" &"
    worker = f"trap '{note} {root}/worker' TERM; {child} echo here; {wait}"
    low = await submit(worker, output=f"{root}/low.log")
    await said(root / "low.log", "here")
    await said(root / "low.log", "there")
    high = await submit("sleep 60", partitions=(HIGH,))
    await said(root / "worker", ".")
    await said(root / "child", ".")
    told_at = float(read(root / "worker").split()[0])
    await until(real, {low: JobState.PREEMPTED, high: JobState.RUNNING})
    (job,) = [job for job in (await real.jobs()).jobs if job.id == low]
    assert job.cause is Cause.PREEMPTED
    assert job.ends_at is not None
    assert job.ends_at - told_at >= GRACE - 1


async def test_slurmctld_away(slurm: LocalSlurm) -> None:
    """Nothing runs less for it, every question is told as unanswered, and it comes back."""
    real = client.local(slurm.environ)
    job = await submitter(real)(STUBBORN)
    await until(real, {job: JobState.RUNNING})
    await asyncio.to_thread(slurm.stop_controller)
    impatient = SlurmClient(real.commands, client.Timeouts(read=1.0, submit=1.0))
    snapshot, submission, ping = await asyncio.gather(
        impatient.jobs(), impatient.submit(render(["/bin/true"])[0]), real.ping()
    )
    assert not snapshot.trusted
    assert submission.outcome is SubmitOutcome.UNSURE
    assert ping.problem
    assert "Unable to contact" in (await real.jobs()).problem
    await asyncio.to_thread(slurm.start_controller)
    await until(real, {job: JobState.RUNNING})


async def test_a_node_dies_and_comes_back(slurm: LocalSlurm) -> None:
    real = client.local(slurm.environ)
    job = await submitter(real)(STUBBORN, output=f"{slurm.root}/job.log")
    await said(slurm.root / "job.log", "here")
    (told,) = (await real.jobs()).jobs
    running = slurm.job_processes(*told.nodes)
    names = {read(Path(f"/proc/{pid}/comm")).strip() for pid in running}
    assert {"slurmstepd", "srun", "bash"} <= names
    running.add(slurm.pid(told.nodes[0]))
    await asyncio.to_thread(slurm.kill_node, told.nodes[0])
    deadline = time.monotonic() + WAIT_SECONDS
    while any(processes.alive(pid) for pid in running):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await until(real, {job: JobState.NODE_FAIL}, 150)
    (told,) = (await real.jobs()).jobs
    assert (told.cause, told.reason) == (Cause.NODE, "NodeDown")
    nodes = {node.name: node for node in (await real.nodes()).nodes}
    assert not nodes[told.nodes[0]].usable
    await asyncio.to_thread(slurm.start_node, told.nodes[0])
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(node.usable for node in (await real.nodes()).nodes):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def test_two_slurms_side_by_side(start_slurm: StartSlurm) -> None:
    one, two = start_slurm(LocalOptions(nodes=1)), start_slurm(LocalOptions(nodes=2))
    job = await submitter(client.local(one.environ))(POLITE)
    await until(client.local(one.environ), {job: JobState.RUNNING})
    assert (await client.local(two.environ).jobs()).jobs == ()
    assert len((await client.local(two.environ).nodes()).nodes) == 2


async def test_the_clients_json_agrees_with_its_rows(slurm: LocalSlurm) -> None:
    rows = client.local(slurm.environ)
    jobs = [await submitter(rows)(POLITE) for _ in range(5)]
    await until(rows, dict.fromkeys(jobs[:4], JobState.RUNNING))
    asked = SlurmClient(rows.commands, json=True)
    told = {job.id: job for job in (await asked.jobs()).jobs}
    for job in (await rows.jobs()).jobs:
        same = told[job.id]
        assert (job.state, job.record, job.nodes) == (same.state, same.record, same.nodes)
        assert (job.time_limit, job.submitted_at) == (same.time_limit, same.submitted_at)


# The same story on the real Slurm and on the fake.


class Stage(Protocol):
    """Where the story plays."""

    slurm: Slurm

    async def wait(self, seconds: float) -> None:
        """Let time go by."""

    async def requeue(self, job: int) -> None: ...

    def lose(self, node: str) -> None: ...


class RealStage:
    def __init__(self, local: LocalSlurm) -> None:
        self._local = local
        self._client = client.local(local.environ)
        self.slurm: Slurm = self._client

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def requeue(self, job: int) -> None:
        assert (await self._client.requeue(job)).problem == ""

    def lose(self, node: str) -> None:
        self._local.kill_node(node)


class FakeStage:
    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        options = FakeOptions(
            grace_seconds=GRACE, kill_wait=2, drain_seconds=None, preempt="REQUEUE"
        )
        self._fake = FakeSlurm(lambda: self._now, options, self)
        self.slurm: Slurm = self._fake

    def started(self, job: FakeJob) -> None:
        """Do what the command does."""
        if SHORT in job.script:
            job.exits_at = (job.starts_at or 0.0) + 2
            job.exit_code = 3 if "exit 3" in job.script else 0

    def signalled(self, job: FakeJob) -> None:
        pass

    def ended(self, job: FakeJob) -> None:
        pass

    async def wait(self, seconds: float) -> None:
        self._now += seconds

    async def requeue(self, job: int) -> None:
        assert (await self._fake.requeue(job)).problem == ""

    def lose(self, node: str) -> None:
        self._fake.cluster.lose_node(node)


class Watched:
    """Notes each change of each job's state while a story goes on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.seen: dict[int, list[str]] = {}
        self.nodes: dict[int, str] = {}

    async def look(self) -> None:
        snapshot = await self._stage.slurm.jobs()
        assert snapshot.trusted, snapshot.problem
        for job in snapshot.jobs:
            # How long these last is the machine's business; a look may miss them.
            if job.phase is SlurmPhase.ENDING or job.state.main is JobState.SIGNALING:
                continue
            self.nodes[job.id] = job.nodes[0] if job.nodes else ""
            word = str(job.state.main)
            # While it waits, the reason is part of the story; the first look may come before
            # the scheduler's.
            if job.phase is SlurmPhase.WAITING and job.reason == "BeginTime":
                word += " BeginTime"
            states = self.seen.setdefault(job.id, [])
            if not states or states[-1] != word:
                states.append(word)

    async def until(self, enough: Callable[[], bool], seconds: float) -> None:
        """Watch until it is `enough`."""
        waited = 0.0
        await self.look()
        while not enough():
            assert waited < seconds, self.seen
            await self._stage.wait(0.1)
            waited += 0.1
            await self.look()

    def states(self, *jobs: int) -> list[str]:
        return [self.seen.get(job, ["none"])[-1] for job in jobs]


async def story(stage: Stage) -> list[list[str]]:
    """What each of ten jobs goes through on four nodes, in the order of their submission."""
    submit = submitter(stage.slurm)
    watched = Watched(stage)
    jobs: list[int] = []

    async def job(command: str = STUBBORN, **fields: Any) -> int:
        jobs.append(await submit(command, **fields))
        return jobs[-1]

    # Full: one node for a job that nobody pushes aside, three for jobs that somebody will.
    expires = await job(time="1", partitions=(HIGH,))
    low = [await job(requeue=True), await job(), await job(requeue=True)]
    waits = await job()
    await watched.until(lambda: watched.states(expires, *low) == ["RUNNING"] * 4, 30)
    starts_at, looks = None, 0
    while starts_at is None:
        assert looks < 30
        await stage.wait(1)  # the backfill scheduler looks every two seconds
        (estimate,) = (await stage.slurm.start_estimates()).jobs
        assert estimate.id == waits
        starts_at, looks = estimate.starts_at, looks + 1
    # Cancelled before it ever ran.
    await stage.slurm.cancel_waiting([waits])
    await watched.until(lambda: watched.states(waits) == ["CANCELLED"], 10)
    # Preempted: what may be requeued is, the other is over.
    high = [await job(partitions=(HIGH,), requeue=again) for again in (False, False, True)]
    await watched.until(lambda: watched.states(*high) == ["RUNNING"] * 3, 60)
    aside = ["PENDING BeginTime", "PREEMPTED", "PENDING BeginTime"]
    await watched.until(lambda: watched.states(*low) == aside, 30)
    # What was requeued would run again after two minutes: it goes before that.
    await stage.slurm.cancel([low[0], low[2]])
    await watched.until(lambda: watched.states(low[0], low[2]) == ["CANCELLED"] * 2, 30)
    # Cancelled while it runs, requeued by hand, and on a node that dies.
    await stage.slurm.cancel([high[0]])
    await stage.requeue(high[2])
    over = ["CANCELLED", "PENDING BeginTime"]
    await watched.until(lambda: watched.states(high[0], high[2]) == over, 60)
    await stage.slurm.cancel([high[2]])
    stage.lose(watched.nodes[high[1]])
    over = ["CANCELLED", "NODE_FAIL", "CANCELLED"]
    await watched.until(lambda: watched.states(*high) == over, 150)
    # Ends by itself, well and not so well.
    ends = [await job(SHORT), await job(f"{SHORT}; exit 3")]
    await watched.until(lambda: watched.states(*ends) == ["COMPLETED", "FAILED"], 30)
    # Out of walltime; Slurm looks for such jobs every half minute.
    await watched.until(lambda: watched.states(expires) == ["TIMEOUT"], 120)
    return [watched.seen[each] for each in jobs]


async def test_the_story_on_the_fake() -> None:
    assert await story(FakeStage()) == [
        ["PENDING", "RUNNING", "TIMEOUT"],
        ["PENDING", "RUNNING", "PENDING BeginTime", "CANCELLED"],
        ["PENDING", "RUNNING", "PREEMPTED"],
        ["PENDING", "RUNNING", "PENDING BeginTime", "CANCELLED"],
        ["PENDING", "CANCELLED"],
        ["PENDING", "RUNNING", "CANCELLED"],
        ["PENDING", "RUNNING", "NODE_FAIL"],
        ["PENDING", "RUNNING", "PENDING BeginTime", "CANCELLED"],
        ["PENDING", "RUNNING", "COMPLETED"],
        ["PENDING", "RUNNING", "FAILED"],
    ]


@pytest.mark.timeout(300)
async def test_the_fake_does_as_the_real_one_does(start_slurm: StartSlurm) -> None:
    real = await story(RealStage(start_slurm(OPTIONS)))
    fake = await story(FakeStage())
    assert [from_its_start(seen) for seen in real] == [from_its_start(seen) for seen in fake]


def from_its_start(seen: list[str]) -> list[str]:
    """A job's states without the wait before its first start.

    Slurm may start a job at once, and a look on a busy machine comes after that.
    """
    return seen[1:] if seen[:2] == ["PENDING", "RUNNING"] else seen
