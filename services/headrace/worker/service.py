"""The worker's life: load, serve, drain or give up, and leave nothing behind."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NamedTuple, NoReturn

from prometheus_client import CollectorRegistry

from headrace.protocol import names, subjects
from headrace.protocol.errors import Code
from headrace.protocol.names import ProcessId
from headrace.protocol.state import WorkerPhase
from headrace.runtime import metrics as metrics_server
from headrace.runtime.lifecycle import FatalError, Lifecycle
from headrace.runtime.logging import Logger
from headrace.runtime.nats.bus import Bus, BusError
from headrace.runtime.nats.jetstream import PROGRESS_SECONDS, JetStream
from headrace.worker import walltime
from headrace.worker.engine.backend import Backend
from headrace.worker.gpu_time import GpuTime, gpus
from headrace.worker.heartbeat import BEAT_SECONDS, Heartbeat
from headrace.worker.metrics import WorkerMetrics
from headrace.worker.options import CommonOptions
from headrace.worker.queue.attempt import AttemptContext
from headrace.worker.queue.control import Control
from headrace.worker.queue.frame_sender import FrameSender
from headrace.worker.queue.intake import Intake
from headrace.worker.queue.retransmit_buffer import RetransmitBuffer
from headrace.worker.stream.engine_stream import ENGINE_FAILED

PUMP_SECONDS: Final = 0.25
"""How often pulls are looked after besides: lost ones are forgotten, absent lanes tried again."""

ABORT_SECONDS: Final = 2.0
"""How long the engine's connections may take to close at the end of the drain."""

LAST_WORD_SECONDS: Final = 3.0
"""How long a worker that has never been connected may still try, to tell why it ends: an engine
that cannot start dies sooner than the bus is there."""

DRAINED: Final = "The worker had to stop before the answer was complete."

TOO_LATE: Final = "the walltime is over before the engine has loaded; the job needs a longer one"


class _Ready(NamedTuple):
    """The engine serves."""

    by: str
    """What it has answered."""


class Worker:
    """One worker process and its engine."""

    def __init__(
        self,
        options: CommonOptions,
        engine: Backend,
        log: Logger,
        inbox: Callable[[ProcessId], str],
    ) -> None:
        self._options = options
        worker = names.new_process_id()
        self._log = log.bind(worker=worker, model=options.model)
        self._engine = engine
        registry = CollectorRegistry()
        metrics = WorkerMetrics(registry, cluster=options.cluster, model=options.model)
        limits = options.limits
        self._bus = Bus(self._log, name=f"worker-{worker}", inbox=inbox(worker))
        self._shared = AttemptContext(
            worker=worker,
            options=options,
            bus=self._bus,
            outbox=FrameSender(self._bus, metrics.unsent.inc),
            client=engine.client,
            backend=engine,
            replay=RetransmitBuffer(
                per_request=limits.replay_bytes,
                total=limits.replay_total_bytes,
                seconds=limits.replay_seconds,
            ),
            metrics=metrics,
            log=self._log,
            share=GpuTime(gpus(os.environ)),
        )
        self._registry = registry
        self._heartbeat = Heartbeat(self._shared)
        self._reason = "the worker failed"
        self._loaded = False

    async def run(self, life: Lifecycle) -> int:
        """Serve until asked to stop; the exit code. Raises FatalError where the engine fails."""
        self._log.info(
            "starting", engine=self._engine.kind, cluster=self._options.cluster, pid=os.getpid()
        )
        graceful = False
        try:
            metrics_server.serve(self._registry, self._options.metrics_port)
            async with asyncio.TaskGroup() as tasks:
                await self._work(life, tasks)
            graceful = True
        except BaseExceptionGroup as group:
            # One reason is what the operator needs, and what the caller looks for.
            raise group.exceptions[0] from None
        finally:
            self._shared.outbox.flush()
            self._heartbeat.enter(WorkerPhase.GONE, self._reason)
            self._shared.client.close()
            await self._bus.close()
            await self._engine.stop(graceful=graceful)
        return 0

    async def _work(self, life: Lifecycle, tasks: asyncio.TaskGroup) -> None:
        intake = Intake(self._shared, JetStream(self._bus, subjects.DOMAIN), tasks)
        side = [
            tasks.create_task(every(BEAT_SECONDS, lambda: self._beat(intake)), name="heartbeat"),
            tasks.create_task(every(PROGRESS_SECONDS, intake.progress), name="progress"),
            tasks.create_task(every(PUMP_SECONDS, intake.pump), name="pump"),
            tasks.create_task(walltime.watch(self._options, life), name="walltime"),
        ]
        try:
            loaded = await self._load(life)
            if loaded:
                await Control(self._shared, intake).start()
                await intake.start()
                self._heartbeat.enter(WorkerPhase.READY)
                self._loaded = True
                life.ready()
                await self._serve(life, intake)
                await self._drain(life, intake)
            self._reason = "stopped"
            if not loaded and life.reason == walltime.REASON:
                self._reason = TOO_LATE
                self._log.warning("gave_up", reason=TOO_LATE)
        except asyncio.CancelledError:
            # Told to stop at once: whoever waits gets another worker.
            intake.fail_all(Code.WORKER_DRAINED, DRAINED)
            self._reason = "stopped at once"
            raise
        finally:
            for task in side:
                task.cancel()

    async def _load(self, life: Lifecycle) -> bool:
        """Start the engine and connect; False where the worker is asked to stop meanwhile."""
        options = self._options
        if walltime.is_over(options):
            life.stop(walltime.REASON)
            return False
        began = asyncio.get_running_loop().time()
        self._shared.metrics.slots.set(options.slots)
        await self._engine.start()
        connecting = asyncio.create_task(self._bus.connect(options.bus))
        try:
            done = await first(
                life.stopping.wait(), self._engine.died(), self._until_ready(connecting)
            )
            if isinstance(done, str) or life.reason == walltime.REASON:
                await self._last_word(connecting)
        finally:
            connecting.cancel()
        if done is True:
            return False
        if not isinstance(done, _Ready):
            self._give_up(done)
        seconds = asyncio.get_running_loop().time() - began
        self._shared.metrics.load_seconds.set(seconds)
        self._shared.metrics.engine_up.set(1)
        self._log.info("engine_ready", seconds=round(seconds, 2), endpoint=done.by)
        return True

    async def _until_ready(self, connecting: asyncio.Task[None]) -> _Ready | str:
        """Wait for engine and bus; or why the engine will never serve."""
        ready = asyncio.create_task(self._engine.ready())
        try:
            # It goes on connecting where the engine fails: that is to be told.
            _, by = await asyncio.gather(asyncio.shield(connecting), ready)
        except FatalError as error:
            return str(error)
        finally:
            ready.cancel()
        return _Ready(by)

    async def _last_word(self, connecting: asyncio.Task[None]) -> None:
        """Wait a little for the bus, so that it can be told why this worker ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await connecting

    async def _serve(self, life: Lifecycle, intake: Intake) -> None:
        """Return when asked to stop. Raises FatalError when the engine dies or hangs."""
        reason = await first(life.stopping.wait(), self._engine.died(), self._engine.lost())
        if reason is True:
            return
        self._shared.metrics.engine_up.set(0)
        intake.fail_all(Code.ENGINE_FAILED, ENGINE_FAILED)
        with suppress(TimeoutError):
            async with asyncio.timeout(ABORT_SECONDS):
                await intake.idle()
        self._give_up(reason)

    async def _drain(self, life: Lifecycle, intake: Intake) -> None:
        self._heartbeat.enter(WorkerPhase.DRAINING)
        intake.stop_pulling()
        with suppress(TimeoutError):
            async with life.draining():
                await intake.drained()
        intake.fail_all(Code.WORKER_DRAINED, DRAINED)
        with suppress(TimeoutError):
            async with asyncio.timeout(ABORT_SECONDS):
                await intake.idle()
        with suppress(BusError):
            await self._bus.flush()

    def _give_up(self, reason: str) -> NoReturn:
        self._reason = reason.partition("\n")[0]
        raise FatalError(reason)

    def _beat(self, intake: Intake) -> None:
        trouble = self._engine.trouble
        if self._heartbeat.phase is WorkerPhase.READY and trouble:
            self._heartbeat.enter(WorkerPhase.LOADING, trouble)
        elif self._heartbeat.phase is WorkerPhase.LOADING and self._loaded and not trouble:
            self._heartbeat.enter(WorkerPhase.READY)
        self._heartbeat.running = intake.running
        self._heartbeat.beat()
        now = asyncio.get_running_loop().time()
        self._shared.replay.expire(now)
        self._shared.metrics.replay_bytes.set(self._shared.replay.size)


async def every(seconds: float, call: Callable[[], None]) -> None:
    """Call `call` every so many seconds, for ever."""
    while True:
        await asyncio.sleep(seconds)
        call()


async def first(*contenders: Coroutine[Any, Any, Any]) -> Any:
    """The result of the one that is done first, or what it raises; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in contenders]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
