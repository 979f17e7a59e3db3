"""A cluster with one scaler, a fake Slurm and a fake queue, in virtual time.

The fake Slurm is held against the real one in ``tests/integration/test_slurm.py``.
"""

import asyncio
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from headrace.protocol.names import Slug
from headrace.protocol.plan import Plan
from headrace.protocol.state import WorkerPhase, WorkerState
from headrace.runtime.logging import setup
from headrace.runtime.nats.bus import BusError
from headrace.runtime.nats.jetstream import ConsumerInfo, Position
from headrace.scaler.metrics import ScalerMetrics
from headrace.scaler.options import ScalerOptions
from headrace.scaler.reconciler import Reconciler
from headrace.scaler.workers import Workers
from headrace.slurm import states
from headrace.slurm.states import SlurmPhase
from headrace.testing.fake_cluster import FakeOptions
from headrace.testing.fake_job import FakeJob
from headrace.testing.fake_slurm import FakeSlurm

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

    def __init__(
        self,
        folder: Path,
        cluster: str = "north",
        queue: Queue | None = None,
        options: FakeOptions | None = None,
    ) -> None:
        self.now = 1_800_000_000.0
        self.folder = folder
        self.cluster = cluster
        self.queue = queue or Queue()
        self.slurm = FakeSlurm(lambda: self.now, options)
        self.workers = Workers(cluster)
        self.heard = True
        self.mute: set[int] = set()
        self.load_seconds = 30.0
        (folder / "models.d").mkdir()
        (folder / "models.d" / "m.toml").write_text(FILE)
        self.rounds = self.new_scaler()

    def new_scaler(self) -> Reconciler:
        options = ScalerOptions(
            cluster=self.cluster,
            models=str(self.folder / "models.d"),
            state=str(self.folder / "state"),
        )
        Path(options.state).mkdir(exist_ok=True)
        queue: Any = self.queue
        self.registry = CollectorRegistry()
        return Reconciler(
            options, self.slurm, queue, self.workers, log=setup("test", "error"),
            metrics=ScalerMetrics(self.registry, self.cluster), clock=lambda: self.now,
        )  # fmt: skip

    def jobs(self, *phases: SlurmPhase) -> list[FakeJob]:
        """Jobs that are not over, or those in the phases asked for."""
        wanted = phases or (SlurmPhase.WAITING, SlurmPhase.RUNNING, SlurmPhase.ENDING)
        return [
            job
            for job in self.slurm.cluster.jobs.values()
            if states.parse(job.state).phase in wanted
        ]

    def serves(self, job: FakeJob) -> bool:
        """Whether a running job has loaded."""
        return self.now - (job.starts_at or self.now) >= self.load_seconds

    def beat(self, step: float = 0.0) -> None:
        """What workers tell, `step` seconds later."""
        self.now += step
        for job in self.jobs(SlurmPhase.RUNNING):
            if job.id in self.mute:
                continue
            phase = WorkerPhase.READY if self.serves(job) else WorkerPhase.LOADING
            name = f"worker{job.id:010d}"
            state = WorkerState(1, self.cluster, MODEL, name, phase, 4, 0, job=job.id, node="n")
            self.workers.hear(state, self.now)

    def round(self, step: float = 5.0) -> Plan:
        """One round, `step` seconds later."""
        self.now += step
        if self.heard:
            self.beat()
        (plan,) = asyncio.run(self.rounds.run(listening_since=0.0 if self.heard else None)) or (
            None,
        )
        assert plan is not None
        return plan

    def pass_(self, seconds: float, step: float = 5.0) -> Plan:
        """Let time go by, a round every few seconds; the last plan."""
        end = self.now + seconds
        while True:
            plan = self.round(min(step, end - self.now))
            if self.now >= end:
                return plan

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a metric of the scaler's."""
        labels = {"cluster": self.cluster, "model": MODEL, **labels}
        return self.registry.get_sample_value(f"headrace_scaler_{name}", labels)

    def submissions(self) -> int:
        return self.slurm.calls.count("sbatch")
