"""A worker process: the real intake, attempts, replay and heartbeat, and the life around them.

`headrace.worker.service` starts an engine process and reads signals; what it decides when it
drains, is told to stop at once, or loses its engine, is said again here.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from headrace.protocol import subjects
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import ProcessId
from headrace.protocol.state import WorkerPhase
from headrace.runtime.engine import EngineKind, EngineOptions
from headrace.runtime.nats.jetstream import PROGRESS_SECONDS, JetStream
from headrace.worker.heartbeat import BEAT_SECONDS, Heartbeat
from headrace.worker.options import WorkerLimits, WorkerOptions
from headrace.worker.queue.attempt import AttemptContext
from headrace.worker.queue.control import Control
from headrace.worker.queue.frame_sender import FrameSender
from headrace.worker.queue.intake import Intake
from headrace.worker.queue.retransmit_buffer import RetransmitBuffer
from headrace.worker.service import ABORT_SECONDS, DRAINED, every
from headrace.worker.stream.engine_stream import ENGINE_FAILED
from tests.model.check import Check
from tests.model.engine import Engine
from tests.model.network import Bus, Link, Network
from tests.model.nothing import Log, Nothing

MODEL = "m"
LIMITS = WorkerLimits()
PUMP_SECONDS = 1.0
"""Four times what the real one takes: half of a history's time would go into it."""


class _Well:
    """An engine that always takes requests."""

    takes = True

    @staticmethod
    def broken(_: OSError) -> HeadraceError:
        """Another worker may do better, as the real one says."""
        return HeadraceError(Code.ENGINE_FAILED, ENGINE_FAILED, retryable=True)


class _OneLane:
    """Which lane a request is in changes nothing here, and each costs pulls."""

    weights = {"high": 1}  # noqa: RUF012


class Worker:
    """One worker, from its first pull on."""

    def __init__(
        self, name: str, network: Network, link: Link, check: Check, log: Log,
        *, slots: int, ids: bool, direct: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.link = link
        self.loop = network.loop.clock.loop(name)
        self.draining = False
        self.gone = False
        self.id = ProcessId(name.ljust(16, "0"))
        self.bus = Bus(
            network, self.loop, link, name=name, inbox=subjects.worker_inbox(self.id)
        )  # fmt: skip
        self.bus.direct = direct
        self.engine = Engine(name, check, ids=ids)
        self.beats = True
        """Whether its heartbeats are sent at all."""
        self._network = network
        self._log = log
        self._options = WorkerOptions(
            cluster="c", model=MODEL, engine=EngineOptions(kind=EngineKind.LLAMACPP, model="x"),
            slots=slots, limits=LIMITS, lanes=cast("Any", _OneLane()),
        )  # fmt: skip
        self.intake: Intake | None = None
        self.replay = RetransmitBuffer(
            per_request=LIMITS.replay_bytes,
            total=LIMITS.replay_total_bytes,
            seconds=LIMITS.replay_seconds,
        )
        self._heartbeat: Heartbeat | None = None
        self._stopping: asyncio.Future[Callable[[Intake], Any]]
        self.loop.call_soon(self._start)

    @property
    def alive(self) -> bool:
        """Whether it can be counted on to take requests."""
        return not (self.gone or self.draining or self.engine.dead or self.loop.stopped)

    @property
    def idle(self) -> bool:
        """Whether it has nothing in hand."""
        intake = self.intake
        return self.gone or intake is None or not (intake.running or intake.held)

    def kill(self) -> None:
        """With SIGKILL, and its engine with it."""
        self.gone = self.engine.killed = True
        self.loop.kill()
        self._network.remove(self.bus)

    def drain(self, seconds: float) -> None:
        """Finish what is in hand within that time, and go."""
        if not self.draining and not self.engine.dead:
            self.draining = True
            self.loop.call_soon(self._stopping.set_result, lambda intake: self._drain(seconds))

    def lose_engine(self, noticed_after: float) -> None:
        """The engine dies; the worker is told of it a moment later."""
        if not self.draining and not self.engine.dead:
            self.loop.call_soon(self.engine.die)
            self.draining = True
            self.loop.call_later(noticed_after, self._stopping.set_result, self._give_up)

    def _start(self) -> None:
        self._stopping = self.loop.create_future()
        self._work = self.loop.create_task(self._main())

    async def _main(self) -> None:
        nothing: Any = Nothing()
        shared = AttemptContext(
            worker=self.id, options=self._options, bus=self.bus,
            outbox=FrameSender(self.bus, nothing), client=cast("Any", self.engine),
            backend=cast("Any", _Well()),
            replay=self.replay, metrics=nothing, log=cast("Any", self._log),
        )  # fmt: skip
        self._heartbeat = heartbeat = Heartbeat(shared)
        # Not a TaskGroup: one that is killed in its midst would complain when it is collected.
        tasks: Any = self.loop
        intake = Intake(shared, JetStream(self.bus, subjects.DOMAIN), tasks)
        side = [
            tasks.create_task(every(BEAT_SECONDS, lambda: self._beat(intake))),
            tasks.create_task(every(PROGRESS_SECONDS, intake.progress)),
            tasks.create_task(every(PUMP_SECONDS, intake.pump)),
        ]
        await Control(shared, intake).start()
        await intake.start()
        self.intake = intake
        heartbeat.enter(WorkerPhase.READY)
        await (await self._stopping)(intake)
        for task in side:
            task.cancel()
        heartbeat.enter(WorkerPhase.GONE)
        self.gone = True
        self.loop.call_later(1.0, self._network.remove, self.bus)

    def _beat(self, intake: Intake) -> None:
        heartbeat = self._heartbeat
        assert heartbeat is not None
        heartbeat.running = intake.running
        if self.beats:
            heartbeat.beat()
        self.replay.expire(self.loop.time())

    async def _drain(self, seconds: float) -> None:
        intake, heartbeat = self.intake, self._heartbeat
        assert intake is not None
        assert heartbeat is not None
        heartbeat.enter(WorkerPhase.DRAINING)
        intake.stop_pulling()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await intake.drained()
        intake.fail_all(Code.WORKER_DRAINED, DRAINED)
        with suppress(TimeoutError):
            async with asyncio.timeout(ABORT_SECONDS):
                await intake.idle()

    async def _give_up(self, intake: Intake) -> None:
        intake.fail_all(Code.ENGINE_FAILED, "The engine died.")
        with suppress(TimeoutError):
            async with asyncio.timeout(ABORT_SECONDS):
                await intake.idle()
