"""A Slurm that is not there: the client's interface, a clock of its own, and failures on demand.

For tests of whatever decides about jobs, and for simulations of days. It reads the same scripts
that sbatch would; tests/integration/test_slurm.py holds it against the real one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Final

from headrace.slurm import record, sbatch, squeue, states
from headrace.slurm.output import CommandOutput
from headrace.slurm.sbatch import Submission, SubmitOutcome
from headrace.slurm.scontrol import Change, JobDetail, Ping
from headrace.slurm.sinfo import Node, Nodes, Partition, Partitions
from headrace.slurm.squeue import JobList, SlurmJob
from headrace.slurm.states import JobState, SlurmPhase
from headrace.slurm.times import UNLIMITED
from headrace.testing.fake_cluster import FakeCluster, FakeOptions, Hooks
from headrace.testing.fake_job import FakeJob, FakeNode

HANG_SECONDS: Final = 30.0
"""How long a command that hangs takes until it is given up: the client's time-out."""

_DOWN: Final = "Unable to contact slurm controller (connect failure)"


class Fault(StrEnum):
    """How the answers of squeue and sbatch go wrong."""

    NONE = ""
    DOWN = "down"
    """The controller is away: every command fails. What runs runs on."""
    HANG = "hang"
    """No answer until the time-out."""
    EMPTY = "empty"
    """Nothing at all, with exit code 0."""
    GARBAGE = "garbage"
    """What is not an answer."""
    LIE = "lie"
    """A well-formed answer with no job in it."""
    REFUSE = "refuse"
    """sbatch alone: what is asked for is wrong."""
    LOST = "lost"
    """sbatch alone: the job is accepted, its answer is lost."""


class FakeSlurm:
    """The fake. `now` is the clock in Unix seconds; time goes by when it is read.

    `sleep` is what a command that hangs waits with. `cluster` is there to be looked into and
    changed: `lose_node`, `finish`, and the jobs themselves.
    """

    def __init__(
        self,
        now: Callable[[], float],
        options: FakeOptions | None = None,
        hooks: Hooks | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.fault = Fault.NONE
        """Of every command but sbatch; `Fault.DOWN` also of sbatch."""
        self.sbatch_fault = Fault.NONE
        self.calls: list[str] = []
        """The name of each command that was run."""
        self._now = now
        self._options = options or FakeOptions()
        self._cluster = FakeCluster(self._options, hooks)
        self._sleep = sleep

    @property
    def cluster(self) -> FakeCluster:
        """The cluster as it is now."""
        self._cluster.settle(self._now())
        return self._cluster

    def finish(self, job: int, exit_code: int = 0) -> None:
        """The worker of a running job ends by itself."""
        self.cluster.finish(self._cluster.jobs[job], exit_code)
        self._cluster.settle(self._now())

    async def submit(self, script: str) -> Submission:
        """Submit a batch script."""
        self.calls.append("sbatch")
        fault = Fault.DOWN if self.fault is Fault.DOWN else self.sbatch_fault
        if fault is Fault.HANG:
            await self._sleep(HANG_SECONDS)
            return Submission(SubmitOutcome.UNSURE, reason="sbatch did not answer within 30 s")
        if fault not in {Fault.NONE, Fault.LOST}:
            return _refusal(fault)
        if len([job for job in self.cluster.jobs.values() if not job.over]) >= (
            self._options.max_jobs
        ):
            return _failed("Job violates accounting/QOS policy (job submit limit)")
        try:
            job = self._cluster.submit(script)
        except ValueError as error:
            return _failed(str(error))
        if fault is Fault.LOST:
            return _failed("Socket timed out on send/recv operation")
        return Submission(SubmitOutcome.ACCEPTED, job)

    async def jobs(self) -> JobList:
        """Every job that there is or was lately."""
        self.calls.append("squeue")
        problem = await self._answer()
        if problem is not None:
            return squeue.parse(problem)
        if self.fault is Fault.LIE:
            return JobList()
        return JobList(tuple(_job(job) for job in self.cluster.jobs.values()))

    async def start_estimates(self) -> JobList:
        """The jobs that wait."""
        snapshot = await self.jobs()
        waiting = [job for job in snapshot.jobs if job.phase is SlurmPhase.WAITING]
        return JobList(tuple(waiting), snapshot.malformed, snapshot.problem)

    async def cancel(self, ids: Iterable[int]) -> Change:
        """End jobs."""
        return await self._change("scancel", ids, self._cluster.cancel, tuple(JobState))

    async def cancel_waiting(self, ids: Iterable[int]) -> Change:
        """End jobs that still wait."""
        return await self._change("scancel", ids, self._cluster.cancel, (JobState.PENDING,))

    async def drain(self, ids: Iterable[int]) -> Change:
        """SIGTERM to the workers of running jobs."""
        return await self._change("scancel", ids, self._cluster.signal, (JobState.RUNNING,))

    async def requeue(self, job: int) -> Change:
        """Put a running job back into the queue."""
        return await self._change("scontrol", [job], self._cluster.requeue, (JobState.RUNNING,))

    async def hold(self, job: int) -> Change:
        """Keep a job that waits from starting."""

        def hold(each: FakeJob) -> None:
            each.held, each.reason = True, "JobHeldUser"

        return await self._change("scontrol", [job], hold, (JobState.PENDING,))

    async def release(self, job: int) -> Change:
        """Let a held job start."""

        def release(each: FakeJob) -> None:
            each.held, each.reason = False, "None"

        return await self._change("scontrol", [job], release, (JobState.PENDING,))

    async def nodes(self) -> Nodes:
        """Every node."""
        self.calls.append("sinfo")
        problem = await self._answer()
        if problem is not None:
            return Nodes(problem=squeue.parse(problem).problem)
        partitions = tuple(self._options.tiers)
        return Nodes(tuple(_node(node, partitions) for node in self.cluster.nodes.values()))

    async def partitions(self) -> Partitions:
        """Every partition."""
        self.calls.append("sinfo")
        problem = await self._answer()
        if problem is not None:
            return Partitions(problem=squeue.parse(problem).problem)
        return Partitions(
            tuple(
                Partition(
                    name=name,
                    time_limit=UNLIMITED,
                    nodes=self._options.nodes,
                    gpus_per_node=self._options.gpus,
                    tier=tier,
                    preempt_mode=self._options.preempt,
                )
                for name, tier in self._options.tiers.items()
            )
        )

    async def detail(self, job: int) -> JobDetail:
        """All that is known of one job."""
        self.calls.append("scontrol")
        problem = await self._answer()
        if problem is not None:
            return JobDetail(problem=squeue.parse(problem).problem)
        found = self.cluster.jobs.get(job)
        if found is None:
            return JobDetail(problem="slurm_load_jobs error: Invalid job id specified")
        return JobDetail(
            _job(found), found.exit_code, restarts=found.restarts, requeue=found.requeue
        )

    async def ping(self) -> Ping:
        """Whether a controller answers."""
        self.calls.append("scontrol")
        problem = await self._answer()
        if problem is not None:
            return Ping(down=("fake",), problem="no controller is up")
        return Ping(up=("fake",))

    async def _answer(self) -> CommandOutput | None:
        """What a command leaves behind that goes wrong; None where it goes well."""
        if self.fault is Fault.HANG:
            await self._sleep(HANG_SECONDS)
        answers = {
            Fault.DOWN: CommandOutput(1, stderr=f"slurm_load_jobs error: {_DOWN}\n"),
            Fault.HANG: CommandOutput(None, failure="squeue did not answer within 30 s"),
            Fault.EMPTY: CommandOutput(0),
            Fault.GARBAGE: CommandOutput(0, "<html><title>502 Bad Gateway</title></html>\n"),
        }
        return answers.get(self.fault)

    async def _change(
        self,
        name: str,
        ids: Iterable[int],
        change: Callable[[FakeJob], None],
        states_: tuple[JobState, ...],
    ) -> Change:
        self.calls.append(name)
        problem = await self._answer()
        if problem is not None:
            return Change(squeue.parse(problem).problem)
        for each in ids:
            job = self.cluster.jobs.get(each)
            # scancel does not mind a job that is gone.
            if job is not None and not job.over and job.state in states_:
                change(job)
        self._cluster.settle(self._now())
        return Change()


def _refusal(fault: Fault) -> Submission:
    if fault is Fault.REFUSE:
        return _failed("Invalid account or account/partition combination specified")
    if fault is Fault.DOWN:
        return _failed(_DOWN)
    return sbatch.parse(CommandOutput(0, "garbage\n" if fault is Fault.GARBAGE else ""))


def _failed(reason: str) -> Submission:
    return sbatch.parse(
        CommandOutput(1, stderr=f"sbatch: error: Batch job submission failed: {reason}\n")
    )


def _job(job: FakeJob) -> SlurmJob:
    return SlurmJob(
        id=job.id,
        name=job.name,
        state=states.parse(job.state),
        reason="" if job.reason == "None" else job.reason,
        user="fake",
        partition=job.partition,
        submitted_at=job.submitted_at,
        starts_at=job.starts_at,
        ends_at=job.ends_at,
        time_limit=float(job.time_limit),
        nodes=job.nodes,
        gres=f"gres:gpu:{job.gpus}" if job.gpus else "",
        record=record.parse(job.comment),
        restarts=job.restarts,
    )


def _node(node: FakeNode, partitions: tuple[str, ...]) -> Node:
    return Node(
        name=node.name,
        partitions=partitions,
        state=node.state,
        responds=not node.down,
        cpus=node.cpus,
        gpus=node.gpus,
        reason=node.reason,
    )
