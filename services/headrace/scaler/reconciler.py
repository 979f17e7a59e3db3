"""One round of the scaler: look at everything, decide for each model, act, and tell.

The decisions are `policy`'s and the bookkeeping `fleet`'s; this is the shell around them.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from headrace.catalogue import loader, overrides, status
from headrace.catalogue.loader import Catalogue, CatalogueError
from headrace.catalogue.worker import ClusterOptions, batch_script, config_path, worker_options
from headrace.protocol.names import LANES, Slug
from headrace.protocol.plan import Plan
from headrace.runtime.logging import Logger
from headrace.runtime.nats.bus import BusError
from headrace.runtime.nats.jetstream import JetStream, JetStreamError
from headrace.scaler import backlog, model_state
from headrace.scaler.metrics import ScalerMetrics
from headrace.scaler.model_state import ModelState
from headrace.scaler.options import ScalerOptions
from headrace.scaler.peer_clusters import PeerClusters
from headrace.scaler.policy import eta
from headrace.scaler.policy.decide import Action, CancelJob, DrainJob, SubmitJob
from headrace.scaler.policy.learned import Learned
from headrace.scaler.policy.observations import EndedJob, JobOutcome, JobPhase
from headrace.scaler.workers import Workers
from headrace.slurm import record
from headrace.slurm.client import Slurm
from headrace.slurm.sbatch import SubmitOutcome
from headrace.slurm.squeue import JobList, SlurmJob
from headrace.slurm.states import SlurmPhase

BUSY_SECONDS: Final = 5.0
BUSY_MOST_SECONDS: Final = 60.0
"""After a submission that Slurm could not take: doubled from the first to the most."""

AGAIN_SECONDS: Final = 60.0
"""A worker that was told to drain and does not is told again after so long. A second SIGTERM leaves
it seconds, so not earlier."""

KEEP_SECONDS: Final = 60.0
"""How often what was learned is written down."""


class Reconciler:
    """Everything the scaler knows, from round to round."""

    def __init__(
        self,
        options: ScalerOptions,
        slurm: Slurm,
        jetstream: JetStream,
        workers: Workers,
        *,
        log: Logger,
        metrics: ScalerMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self.keepers: dict[Slug, ModelState] = {}
        self.neighbours = PeerClusters(options.cluster, options.stale_seconds)
        self.problems: list[str] = []
        self.jobs_at = 0.0
        self._slurm = slurm
        self._jetstream = jetstream
        self._workers = workers
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._state = Path(options.state)
        self._cluster = ClusterOptions(
            name=options.cluster,
            bus=options.worker_bus,
            configs=f"{options.state}/workers",
            command=options.worker_command,
            installation=options.installation,
        )
        self._catalogue = Catalogue({})
        self._catalogue_read = False
        self._overrides = overrides.Overrides()
        self._told: dict[int, float] = {}
        self._busy_until = 0.0
        self._busy_seconds = BUSY_SECONDS
        self._kept_at = 0.0
        metrics.squeue_age.set_function(lambda: clock() - self.jobs_at)

    async def run(self, *, listening_since: float | None) -> list[Plan]:
        """One round. Returns the plans.

        `listening_since` is when we began to hear workers, None if we do not, or not for long
        enough to have heard them all.
        """
        self.problems = []
        self._read_catalogue()
        self._read_overrides()
        await asyncio.gather(self._read_queues(), self._read_slurm(listening_since))
        now = self._clock()
        plans = []
        rows = []
        left = self.options.submissions_per_round
        for each in list(self.keepers.values()):
            spec = each.scaling(
                self._overrides.models.get(each.model.queue), self.options.stale_seconds
            )
            decision = each.decide(
                spec,
                now,
                jobs_at=self.jobs_at,
                workers_at=now if listening_since is not None else 0.0,
                elsewhere=self.neighbours.of(each.model.queue, now),
            )
            for action in decision.actions:
                if isinstance(action, SubmitJob):
                    if left <= 0:
                        continue
                    left -= 1
                await self._act(each, action, now)
            if listening_since is not None and now - self.jobs_at < self.options.stale_seconds:
                for known, why in each.fleet.lost(now, listening_since):
                    await self._cancel(each, known.name, why, failed=True)
            ready_in = eta.ready_in(each.fleet.jobs(), each.learned, now)
            plans.append(each.plan(self.options.cluster, now, ready_in))
            rows.append(each.row(spec, now, ready_in))
            self._metrics.model(rows[-1], decision.needed)
            if each.leaving and not each.fleet.known:
                del self.keepers[each.model.queue]
                self._metrics.forget(each.model.queue)
        self._workers.forget(now)
        self.neighbours.forget(now)
        self._write_status(rows, now)
        self._metrics.round(len(self.problems))
        if now - self._kept_at > KEEP_SECONDS:
            self.keep_learned()
        return plans

    def keep_learned(self) -> None:
        """Write down what was learned, for the next start."""
        self._kept_at = self._clock()
        for slug, each in self.keepers.items():
            try:
                path = self._state / f"learned-{slug}.bin"
                new = path.with_suffix(".new")
                new.write_bytes(model_state.encode(each.learned))
                new.replace(path)
            except OSError as error:
                self._problem(f"what was learned cannot be written: {error.strerror}")

    # --- looking ------------------------------------------------------------------------------

    def _read_catalogue(self) -> None:
        try:
            new = loader.load(Path(self.options.models), self._catalogue)
        except CatalogueError as error:
            self._problem(str(error))
            return
        for problem in new.problems:
            self._problem(f"{problem.file}:{problem.line}: {problem.reason}")
        self._catalogue_read = True
        changes = loader.changes(self._catalogue, new)
        for slug in (*changes.added, *changes.changed):
            model = new.entries[slug].model
            known = self.keepers.get(slug)
            if known is None:
                known = self.keepers[slug] = ModelState(model, self._learned(slug))
                self._metrics.begin(slug)
            known.take(model)
            self._write_worker_options(known)
            self._log.info("model_taken_in", model=slug)
        for slug in changes.removed:
            self.keepers[slug].leaving = True
            self._log.info("model_leaves", model=slug)
        self._catalogue = new

    def _read_overrides(self) -> None:
        try:
            self._overrides = overrides.load(self._state / "overrides.json")
        except ValueError as error:
            self._problem(str(error))

    async def _read_queues(self) -> None:
        try:
            await asyncio.gather(*(self._read_queue(each) for each in self.keepers.values()))
        except (BusError, JetStreamError) as error:
            self._problem(f"the queue cannot be read: {type(error).__name__}")

    async def _read_queue(self, of: ModelState) -> None:
        infos = [self._jetstream.consumer_info(of.model.queue, lane) for lane in LANES]
        of.backlog.update(backlog.counts(await asyncio.gather(*infos)), self._clock())

    async def _read_slurm(self, listening_since: float | None) -> None:
        asked = self._clock()
        snapshot = await self._slurm.jobs()
        self._metrics.squeue_seconds.observe(self._clock() - asked)
        if not snapshot.trusted:
            self._metrics.squeue_errors.inc()
            self._problem(f"squeue: {snapshot.problem}")
            return
        ours = snapshot.ours(self.options.installation, self.options.cluster)
        workers = {slug: self._workers.of(slug) for slug in self.keepers}
        for slug, each in self.keepers.items():
            if each.fleet.contradicts(ours, workers[slug], asked):
                self._metrics.squeue_errors.inc()
                self._problem(f"squeue leaves out jobs of {slug} whose workers are heard")
                return
        for slug, each in self.keepers.items():
            told = [job for job in ours if job.record is not None and job.record.model == slug]
            for ended in each.fleet.update(told, workers[slug], asked, listening_since):
                each.ended.append(ended)
                self._metrics.ended(slug, ended.outcome)
                self._log.info(
                    "job_ended", model=slug, outcome=ended.outcome, reason=ended.reason,
                    address=ended.node, count=int(ended.id) if ended.id.isdigit() else 0,
                )  # fmt: skip
        self.jobs_at = asked
        heard = listening_since is not None
        await self._end_orphans(snapshot, ours, asked, heard=heard)

    # --- acting -------------------------------------------------------------------------------

    async def _act(self, of: ModelState, action: Action, now: float) -> None:
        match action:
            case SubmitJob():
                await self._submit(of, action, now)
            case CancelJob():
                failed = of.hopeless(action.job, now)
                await self._cancel(of, action.job, action.reason, failed=failed)
            case DrainJob():
                await self._drain(of, action, now)

    async def _submit(self, of: ModelState, action: SubmitJob, now: float) -> None:
        if now < self._busy_until:
            return
        model = of.model
        submission = record.new_submission()
        told = await self._slurm.submit(
            batch_script(model, self._cluster, submission, action.avoid)
        )
        self._log.info(
            "job_submitted", model=model.queue, outcome=told.outcome, reason=action.reason,
            code=told.reason, count=told.job,
        )  # fmt: skip
        self._metrics.submitted(model.queue, told.outcome)
        if told.outcome in {SubmitOutcome.ACCEPTED, SubmitOutcome.UNSURE}:
            of.fleet.submitted(submission, told.job, model.generation, now)
            self._busy_seconds = BUSY_SECONDS
            return
        self._problem(f"sbatch for {model.queue}: {told.reason}")
        if told.outcome is SubmitOutcome.REFUSED:
            of.ended.append(
                EndedJob(id=submission, at=now, outcome=JobOutcome.FAILED, reason=told.reason)
            )
        else:
            self._busy_until = now + self._busy_seconds
            self._busy_seconds = min(2 * self._busy_seconds, BUSY_MOST_SECONDS)

    async def _cancel(
        self, of: ModelState, name: str, reason: str, *, failed: bool = False
    ) -> None:
        known = of.fleet.named(name)
        if known is None or not known.id:
            return
        self._log.info("job_cancelled", model=of.model.queue, reason=reason, count=known.id)
        waits = known.phase is JobPhase.WAITING
        change = await (self._slurm.cancel_waiting if waits else self._slurm.cancel)([known.id])
        if change.problem:
            self._problem(f"scancel: {change.problem}")
            return
        self._metrics.cancelled(of.model.queue)
        of.fleet.let_go(name, reason if failed else "")

    async def _drain(self, of: ModelState, action: DrainJob, now: float) -> None:
        known = of.fleet.named(action.job)
        if known is None or not known.id or now - self._told.get(known.id, 0.0) < AGAIN_SECONDS:
            return
        self._log.info("job_drained", model=of.model.queue, reason=action.reason, count=known.id)
        change = await self._slurm.drain([known.id])
        if change.problem:
            self._problem(f"scancel: {change.problem}")
            return
        self._told[known.id] = now
        self._metrics.drained(of.model.queue)
        of.fleet.let_go(action.job)

    async def _end_orphans(
        self, snapshot: JobList, ours: Iterable[SlurmJob], now: float, *, heard: bool
    ) -> None:
        """Jobs of models whose file went while no scaler looked."""
        if self._catalogue.problems or not self._catalogue_read:
            return  # a file that is bad just now is not a file that is gone
        orphans = [
            job
            for job in ours
            if job.record is not None
            and Slug(job.record.model) not in self.keepers
            and now - self._told.get(job.id, 0.0) >= AGAIN_SECONDS
        ]
        waiting = [job.id for job in orphans if job.phase is SlurmPhase.WAITING]
        running = [job.id for job in orphans if job.phase is SlurmPhase.RUNNING]
        # Those that were told, are still there and have no worker: SIGTERM reached nobody.
        silent = [id for id in running if heard and id in self._told and not self._workers.at(id)]
        if waiting:
            await self._slurm.cancel_waiting(waiting)
        if silent:
            await self._slurm.cancel(silent)
        if running := [id for id in running if id not in silent]:
            await self._slurm.drain(running)
        self._told |= dict.fromkeys((*waiting, *silent, *running), now)
        listed = {job.id for job in snapshot.jobs}
        self._told = {id: at for id, at in self._told.items() if id in listed}

    # --- telling ------------------------------------------------------------------------------

    def _write_worker_options(self, of: ModelState) -> None:
        path = Path(config_path(of.model, self._cluster))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(worker_options(of.model, self._cluster), encoding="utf-8")
        except OSError as error:
            self._problem(f"{path}: cannot be written: {error.strerror}")

    def _learned(self, slug: Slug) -> Learned | None:
        try:
            return model_state.decode((self._state / f"learned-{slug}.bin").read_bytes())
        except OSError:
            return None

    def _write_status(self, rows: list[status.ModelRow], now: float) -> None:
        queues = [each.backlog.at for each in self.keepers.values()]
        try:
            status.write(
                self._state / "status.json",
                status.Status(
                    cluster=self.options.cluster,
                    written=now,
                    interval=self.options.interval_seconds,
                    pid=os.getpid(),
                    queue_at=min(queues, default=now),
                    slurm_at=self.jobs_at,
                    problems=tuple(self.problems),
                    models=tuple(rows),
                ),
            )
        except OSError as error:
            self._log.warning("status_not_written", reason=error.strerror)

    def _problem(self, reason: str) -> None:
        self.problems.append(reason)
        self._log.warning("problem", reason=reason)
