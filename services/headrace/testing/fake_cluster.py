"""The cluster inside the fake Slurm: what happens to jobs as time goes by, and in which order.

No clock of its own and nothing random: `settle(now)` does what was due until then, one event after
the other, so the same story always comes out the same.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from headrace.slurm.states import JobState
from headrace.testing import fake_job
from headrace.testing.fake_job import FakeJob, FakeNode

Seconds = Annotated[float, Meta(ge=0)]

NEVER: Final = float("inf")


class FakeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the pretended cluster is like."""

    nodes: int = 4
    cpus: int = 8
    gpus: int = 4
    tiers: dict[str, int] = msgspec.field(default_factory=lambda: {"low": 1, "high": 10})
    """Partitions with their priority tier; the first is the default. All have all nodes."""
    preempt: Literal["CANCEL", "REQUEUE"] = "REQUEUE"
    start_delay: Seconds = 1.0
    """From the submission until the scheduler looks at the job."""
    requeue_delay: Seconds = 120.0
    """Slurm does not start a requeued job again at once."""
    grace_seconds: Seconds = 20.0
    kill_wait: Seconds = 5.0
    node_timeout: Seconds = 10.0
    min_job_age: Seconds = 300.0
    drain_seconds: Seconds | None = 0.0
    """How long a worker goes on after SIGTERM before it ends well; None: it takes no notice."""
    max_jobs: int = 1000
    """More than these are refused, as a site's limit would."""
    max_running: int = 1000
    """More of one account than these wait."""


class Hooks(Protocol):
    """What a test wants to know, for example to start real workers and to signal them."""

    def started(self, job: FakeJob) -> None:
        """The job's processes begin."""

    def signalled(self, job: FakeJob) -> None:
        """SIGTERM for the worker: a drain, a preemption, or the end of the walltime."""

    def ended(self, job: FakeJob) -> None:
        """The job's processes are gone."""


class FakeCluster:
    """Nodes, jobs and a scheduler."""

    def __init__(self, options: FakeOptions, hooks: Hooks | None = None) -> None:
        self.options = options
        self.jobs: dict[int, FakeJob] = {}
        self.nodes = {
            name: FakeNode(name=name, cpus=options.cpus, gpus=options.gpus)
            for name in (f"gpu{number}" for number in range(1, options.nodes + 1))
        }
        self._hooks = hooks
        self._now = 0.0
        self._last_id = 0

    def submit(self, script: str) -> int:
        """A new job's id. Raises ValueError where no node could ever run it."""
        default = next(iter(self.options.tiers))
        delay = self.options.start_delay
        job = fake_job.make(self._last_id + 1, script, self._now, delay, default)
        if any(partition not in self.options.tiers for partition in job.partition.split(",")):
            raise ValueError("Invalid partition name specified")
        if job.gpus > self.options.gpus or job.cpus > self.options.cpus:
            raise ValueError("Requested node configuration is not available")
        if job.node_count > len(self.nodes):
            raise ValueError("Node count specification invalid")
        self._last_id = job.id
        self.jobs[job.id] = job
        return job.id

    def settle(self, now: float) -> None:
        """Do what is due until `now`."""
        while (due := self._next_event()) <= now:
            self._now = max(self._now, due)
            self._step()
        self._now = max(self._now, now)
        self._schedule()

    def signal(self, job: FakeJob) -> None:
        """SIGTERM to the worker of a running job."""
        if not job.running:
            return
        if self._hooks is not None:
            self._hooks.signalled(job)
        if self.options.drain_seconds is not None and job.exits_at is None:
            job.exits_at = self._now + self.options.drain_seconds

    def cancel(self, job: FakeJob) -> None:
        """End a job now, whatever it does."""
        self._stop(job, JobState.CANCELLED)

    def finish(self, job: FakeJob, exit_code: int) -> None:
        """The worker has ended by itself."""
        if job.running:
            job.exit_code = exit_code
            state = JobState.FAILED if exit_code else JobState.COMPLETED
            self._end(job, state, "NonZeroExitCode" if exit_code else "None")

    def requeue(self, job: FakeJob) -> None:
        """Back into the queue, as soon as its processes are gone."""
        self._stop(job, JobState.REQUEUED)

    def lose_node(self, name: str) -> None:
        """A power cut. The jobs there are gone, but Slurm does not know it yet."""
        self.nodes[name].lost_at = self._now
        if self._hooks is not None:
            for job in self._on(name):
                self._hooks.ended(job)

    def restore_node(self, name: str) -> None:
        """The node is back."""
        node = self.nodes[name]
        node.lost_at, node.down, node.drained, node.reason = None, False, False, ""

    def _next_event(self) -> float:
        jobs = [self._due(job) for job in self.jobs.values()]
        nodes = [
            node.lost_at + self.options.node_timeout
            for node in self.nodes.values()
            if node.lost_at is not None and not node.down
        ]
        return min([*jobs, *nodes], default=NEVER)

    def _due(self, job: FakeJob) -> float:
        """When something next happens to the job by itself."""
        if job.over:
            return (job.ended_at or 0.0) + self.options.min_job_age
        if job.state is JobState.COMPLETING:
            return job.exits_at or 0.0
        if job.running:
            lost = any(self.nodes[name].lost_at is not None for name in job.nodes)
            ends_at = job.ends_at or NEVER
            early = ends_at - job.signal_seconds if not job.signalled else NEVER
            exits_at = NEVER if lost or job.exits_at is None else job.exits_at
            return min(ends_at, early, exits_at, job.grace_until or NEVER)
        if not job.held and job.eligible_at > self._now:
            return job.eligible_at
        return NEVER

    def _step(self) -> None:
        for job in list(self.jobs.values()):
            if self._due(job) > self._now:
                continue
            if job.over:
                del self.jobs[job.id]
            elif job.state is JobState.COMPLETING and job.becomes is not None:
                self._end(job, job.becomes, job.reason)
            elif job.running:
                self._step_running(job)
        for node in self.nodes.values():
            lost_at = node.lost_at
            if lost_at is not None and lost_at + self.options.node_timeout <= self._now:
                self._set_down(node)
        self._schedule()

    def _step_running(self, job: FakeJob) -> None:
        if job.exits_at is not None and job.exits_at <= self._now:
            self.finish(job, job.exit_code)
        elif job.grace_until is not None and job.grace_until <= self._now:
            again = job.requeue and self.options.preempt == "REQUEUE"
            self._stop(job, JobState.REQUEUED if again else JobState.PREEMPTED)
        elif (job.ends_at or NEVER) <= self._now:
            self._stop(job, JobState.TIMEOUT, "TimeLimit")
        else:
            job.signalled = True
            if job.signal_seconds:
                self.signal(job)

    def _stop(self, job: FakeJob, becomes: JobState, reason: str = "None") -> None:
        """SIGTERM, and SIGKILL after Slurm's KillWait. Its nodes are free when it is gone."""
        if not job.running:
            if job.state is JobState.PENDING:
                self._end(job, becomes, job.reason)
            return
        if self._hooks is not None:
            self._hooks.signalled(job)
        lasts = [self.options.kill_wait]
        lasts += [] if self.options.drain_seconds is None else [self.options.drain_seconds]
        gone_at = self._now + min(lasts)
        job.exits_at = gone_at if job.exits_at is None else min(job.exits_at, gone_at)
        job.state, job.becomes, job.reason = JobState.COMPLETING, becomes, reason
        if job.exits_at <= self._now:
            self._end(job, becomes, reason)

    def _set_down(self, node: FakeNode) -> None:
        if node.down:
            return
        node.down, node.reason = True, "Not responding"
        for job in self._on(node.name):
            self._end(job, JobState.REQUEUED if job.requeue else JobState.NODE_FAIL, "NodeDown")

    def _end(self, job: FakeJob, state: JobState, reason: str = "None") -> None:
        """The job's processes are gone: it is over, or in the queue again."""
        lost = any(self.nodes[name].lost_at is not None for name in job.nodes)
        if job.holding and not lost and self._hooks is not None:
            self._hooks.ended(job)
        job.becomes = job.grace_until = job.exits_at = None
        if state is JobState.REQUEUED:
            job.state, job.reason, job.nodes = JobState.PENDING, "BeginTime", ()
            job.eligible_at = self._now + self.options.requeue_delay
            job.starts_at = None
            job.signalled = False
            job.restarts += 1
        else:
            job.state, job.reason, job.ended_at = state, reason, self._now

    def _schedule(self) -> None:
        """Start what fits, in the order of tier and age; push aside what may be pushed aside."""
        blocked = False
        promised: list[FakeJob] = []
        waiting = [
            job
            for job in self.jobs.values()
            if job.state is JobState.PENDING and job.eligible_at <= self._now and not job.held
        ]
        for job in sorted(waiting, key=lambda each: (-self._tier(each), each.eligible_at, each.id)):
            if sum(each.holding for each in self.jobs.values()) >= self.options.max_running:
                job.reason = "QOSMaxJobsPerUserLimit"
                continue
            nodes = () if blocked else self._fitting(job, self._usage())
            if nodes:
                self._start(job, nodes)
                continue
            job.reason = "Priority" if blocked else "Resources"
            blocked = True
            self._push_aside(job, promised)
        self._estimate()

    def _start(self, job: FakeJob, nodes: tuple[str, ...]) -> None:
        job.state, job.reason = JobState.RUNNING, "None"
        job.nodes, job.starts_at = nodes, self._now
        if self._hooks is not None:
            self._hooks.started(job)

    def _push_aside(self, job: FakeJob, promised: list[FakeJob]) -> None:
        """Make room by the end of jobs of lower tiers, beside the room `promised` to others."""
        tier = self._tier(job)
        lower = {each.id for each in self.jobs.values() if each.holding and self._tier(each) < tier}
        leaving = {
            each
            for each in lower
            if self.jobs[each].grace_until is not None or not self.jobs[each].running
        }
        for ignored in (leaving, lower):
            nodes = self._fitting(job, self._usage(ignored, promised))
            if nodes:
                promised.append(msgspec.structs.replace(job, nodes=nodes))
                break
        else:
            return
        for victim in (self.jobs[each] for each in lower - leaving):
            if ignored is lower and set(victim.nodes) & set(nodes):
                victim.grace_until = self._now + self.options.grace_seconds
                self.signal(victim)

    def _estimate(self) -> None:
        """When each waiting job would start if all others used their whole walltime."""
        taken = [
            (job.starts_at or 0.0, job.ends_at or NEVER, job)
            for job in self.jobs.values()
            if job.holding
        ]
        for job in self.jobs.values():
            if job.state is not JobState.PENDING:
                continue
            job.starts_at = job.eligible_at if job.reason == "BeginTime" else None
            if job.held or job.reason not in {"Resources", "Priority"}:
                continue
            for at in sorted({self._now, *(end for _, end, _ in taken if end < NEVER)}):
                gone = [each.id for _, end, each in taken if end <= at]
                planned = [each for _, end, each in taken if not each.holding and end > at]
                nodes = self._fitting(job, self._usage(gone, planned))
                if nodes:
                    job.starts_at = at
                    plan = msgspec.structs.replace(job, nodes=nodes)
                    taken.append((at, at + job.time_limit, plan))
                    break

    def _usage(
        self, ignored: Iterable[int] = (), planned: Iterable[FakeJob] = ()
    ) -> dict[str, tuple[int, int]]:
        """CPUs and GPUs in use on each node."""
        skip = set(ignored)
        holding = [job for job in self.jobs.values() if job.holding and job.id not in skip]
        usage = dict.fromkeys(self.nodes, (0, 0))
        for job in (*holding, *planned):
            for name in job.nodes:
                cpus, gpus = usage[name]
                usage[name] = (cpus + job.cpus, gpus + job.gpus)
        return usage

    def _fitting(self, job: FakeJob, usage: dict[str, tuple[int, int]]) -> tuple[str, ...]:
        """Nodes that have room for the job, or none."""
        room = [
            name
            for name, node in self.nodes.items()
            if node.usable
            and name not in job.exclude
            and usage[name][0] + job.cpus <= node.cpus
            and usage[name][1] + job.gpus <= node.gpus
        ]
        return tuple(room[: job.node_count]) if len(room) >= job.node_count else ()

    def _on(self, node: str) -> list[FakeJob]:
        return [job for job in self.jobs.values() if job.holding and node in job.nodes]

    def _tier(self, job: FakeJob) -> int:
        return max(self.options.tiers[partition] for partition in job.partition.split(","))
