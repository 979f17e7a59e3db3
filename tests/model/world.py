"""One history: a seed's processes, requests and faults, run until all is quiet, and judged."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from unittest.mock import patch

from headrace.protocol import codec
from headrace.worker.queue import intake
from tests.model.check import READING_SECONDS, STOP_SECONDS, Check, Story
from tests.model.edge import Edge
from tests.model.engine import Work
from tests.model.faults import NOTICED_SECONDS, Fault, Plan, plan
from tests.model.history import History, Violation
from tests.model.loop import Clock
from tests.model.network import Link, Network, Noise
from tests.model.nothing import Log
from tests.model.queue import Queue, Stored
from tests.model.worker import Worker

START = 1000.0
SLACK = 90.0
"""Who has so long to live when all is calm ends well: silence, a redelivery, and the work itself,
and a few others before it in the queue."""
SETTLE_SECONDS = 20.0
"""So long after the last request nothing of any is left anywhere."""
PUBLISH_SECONDS = 10.0
"""Who leaves while the queue's answer to a publish is lost is noticed so much later."""
MAX_STEPS = 300_000
MAX_MESSAGES = 60
LOSING = {"worker killed", "worker stopped", "engine died", "link cut", "hub restarted",
          "heartbeats lost", "noise"}  # fmt: skip
"""Kinds of faults that can cost a request its worker and count."""


@dataclass
class Run:
    """How one history went."""

    seed: int
    history: History
    steps: int
    failure: str = ""


class World:
    """Everything in it."""

    def __init__(self, seed: int, *, kept: bool) -> None:
        self.clock = Clock(START)
        self.history = History(kept=kept, start=START)
        self.random = Random(seed ^ 0x5EED)
        self.plan: Plan = plan(seed, START)
        self.check = Check(self.history, self.clock)
        self.network = Network(self.clock.loop("hub"), self.history)
        self.queue = Queue(self.network.loop, self.network, self.history)
        self.queue.on_ack = self._acknowledged
        self.queue.on_stored = self.check.stored
        self.links = [Link(f"link {n}", 0.003, self.random) for n in range(self.plan.links)]
        self.home = Link("home", 0.0002, self.random)
        """The edge's own, and of workers on its machine."""
        log = Log(self.history, "edge", self.clock.time)
        log.on["finished"] = self.check.finished
        log.on["accepted"] = self.check.accepted
        self.edge = Edge(self.network, self.home, self.check, log)
        self.workers: list[Worker] = []
        self.calm_at = START
        self.disturbed = START
        """When the last disturbance ended, as far as it has."""
        self.losses = 0
        self._troubles = 0
        self.check.on_leave = self._left
        self.check.clean_since = lambda _: None if self._troubles else self.disturbed

    def note(self, who: str, what: str) -> None:
        """Something happens."""
        self.history.note(self.clock.now, who, what)

    # What is there

    def hire(self, *, slots: int, ids: bool, link: int) -> Worker:
        """Start a worker; `link` -1 is the edge's machine."""
        name = f"w{len(self.workers) + 1}"
        worker = Worker(
            name, self.network, self.links[link] if link >= 0 else self.home, self.check,
            Log(self.history, name, self.clock.time), slots=slots, ids=ids, direct=link < 0,
        )  # fmt: skip
        worker.engine.on_poison = lambda id: self._poison(worker, id)
        self.workers.append(worker)
        return worker

    def _poison(self, worker: Worker, id: str) -> None:
        self.check.stories[id].killed += not worker.draining
        self.losses += 1
        self.history.faults["poison"] += 1
        if self.random.random() < 0.5:
            self.note(worker.name, "is killed by a request")
            worker.kill()
        else:
            self.note(worker.name, "loses its engine to a request")
            worker.lose_engine(self.random.uniform(0.0, NOTICED_SECONDS))
        self.hire_soon(self.random.uniform(1.0, 5.0))

    def hire_soon(self, seconds: float) -> None:
        """A new worker comes, as the scaler sees to."""
        self.network.loop.call_later(
            seconds, lambda: self.hire(slots=2, ids=self.plan.workers[0].ids, link=-1)
        )

    def _left(self, story: Story) -> None:
        """Nothing of it stays in the queue, if nothing is lost."""
        since = self.disturbed
        if not self._troubles and since < self.clock.now:
            self.network.loop.call_later(STOP_SECONDS, self._gone, story.asked.id, since)

    def _gone(self, id: str, since: float) -> None:
        if self._troubles or self.disturbed != since:
            return
        for each in self.queue.messages.values():
            if each.request == id:
                self.check.fail(f"message {each.seq} waits for a client that has left")

    def _acknowledged(self, stored: Stored) -> None:
        self.check.acknowledged(stored, codec.decode_request(stored.data).attempt)

    # What befalls it

    def strike(self, fault: Fault) -> None:
        """Let a fault happen."""
        self.history.faults[fault.kind] += 1
        self.losses += fault.kind in LOSING
        at = self.network.loop
        if fault.kind in ("link cut", "noise"):
            self._disturb(fault)
            return
        if fault.kind == "hub restarted":
            if not self.network.up:
                return
            self.note("hub", f"is gone for {fault.seconds:.2f} s")
            self._troubles += 1
            self.network.hub_down()
            self.queue.restart()
            at.call_later(fault.seconds, self._hub_back)
            return
        worker = self.workers[fault.whom]
        if worker.gone or worker.loop.stopped:
            return
        note = f"{fault.kind}, {fault.seconds:.2f} s" if fault.seconds else fault.kind
        self.note(worker.name, note)
        match fault.kind:
            case "worker killed":
                worker.kill()
            case "worker drained":
                worker.drain(fault.seconds)
            case "engine died":
                worker.lose_engine(fault.seconds)
            case "heartbeats lost":
                worker.beats = False
                at.call_later(fault.seconds, setattr, worker, "beats", True)
            case "worker stopped":
                self._troubles += 1
                worker.loop.stop()
                at.call_later(fault.seconds, self._go_on, worker)

    def _disturb(self, fault: Fault) -> None:
        link = self.links[fault.whom] if fault.whom >= 0 else self.home
        if link.cut or link.noise != Noise():
            return
        self._troubles += 1
        if fault.noise is not None:
            self.note(link.name, f"{fault.noise}, {fault.seconds:.2f} s")
            link.noise = fault.noise
        else:
            self.note(link.name, f"cut ({fault.how}), {fault.seconds:.2f} s")
            link.cut = fault.how
            link.mended_at = self.clock.now + fault.seconds
        self.network.loop.call_later(fault.seconds, self._mend, link)

    def _mend(self, link: Link) -> None:
        late = link.noise.late
        link.cut, link.noise = "", Noise()
        self.note(link.name, "is well again")
        # What was sent before may still be under way.
        self.network.loop.call_later(late, self._well, PUBLISH_SECONDS if link is self.home else 0)

    def _well(self, after: float = 0.0) -> None:
        self._troubles -= 1
        self.disturbed = max(self.disturbed, self.clock.now + after)

    def _hub_back(self) -> None:
        self.note("hub", "is back, and empty")
        self.network.hub_up()
        self.network.loop.call_later(1.0, self._well, PUBLISH_SECONDS)

    def _go_on(self, worker: Worker) -> None:
        if not worker.gone:
            self.note(worker.name, "goes on")
            worker.loop.go_on()
        self._well()

    # How it goes

    def play(self) -> None:
        """Run it all, and judge."""
        for hand in self.plan.workers:
            self.hire(slots=hand.slots, ids=hand.ids, link=hand.link)
        for asked in self.plan.asked:
            self.check.expect(asked)
            self.edge.ask(asked)
        for fault in self.plan.faults:
            self.network.loop.call_at(START + fault.at, self.strike, fault)
        last = self.plan.faults[-1].at if self.plan.faults else 0.0
        self._run(START + last, lambda: False)
        self._run(START + 200.0, lambda: not self._troubles)
        self.calm_at = self.clock.now
        self.note("-", "calm")
        if not any(worker.alive for worker in self.workers):
            self.hire(slots=2, ids=self.plan.workers[0].ids, link=0)
        end = max(asked.at + asked.deadline for asked in self.plan.asked)
        self._run(end + READING_SECONDS + 5.0, lambda: self.check.over)
        self.check.judge(self.calm_at, self.losses, SLACK)
        self._run(self.clock.now + SETTLE_SECONDS, self._quiet)
        self._judge_rest()

    def _run(self, until: float, done: Callable[[], bool]) -> None:
        while self.clock.now < until and not done():
            self.clock.run(min(until, self.clock.now + 0.5))
            if self.clock.crash is not None:
                raise self.clock.crash
            if self.clock.steps > MAX_STEPS:
                raise Violation(f"more than {MAX_STEPS} steps")

    def _waiting(self) -> list[Stored]:
        """What is in the queue and may yet be given out."""
        return [each for each in self.queue.messages.values() if not self.queue.spent(each)]

    def _quiet(self) -> bool:
        return all(worker.idle for worker in self.workers) and not self._waiting()

    def _judge_rest(self) -> None:
        dispatcher = self.edge.dispatcher
        for worker in self.workers:
            if not worker.idle:
                raise Violation(f"{worker.name} still works though nobody waits")
        if left := self._waiting():
            raise Violation(f"the queue still holds {[each.id for each in left]}")
        if len(dispatcher.live):
            raise Violation("the edge still holds a request that is over")
        if self.queue.most > MAX_MESSAGES:
            raise Violation(f"the queue held {self.queue.most} messages")


@contextmanager
def virtual(clock: Clock) -> Iterator[None]:
    """The wall clock is the virtual one, and attempts work with the model's engines."""
    with patch.object(time, "time", clock.time), patch.object(intake, "Attempt", Work):
        yield


def run(seed: int, *, kept: bool = False) -> Run:
    """The history of one seed."""
    world = World(seed, kept=kept)
    failure = ""
    with virtual(world.clock):
        try:
            world.play()
        except (Violation, Exception) as error:  # noqa: BLE001  # whatever goes wrong is a finding
            failure = str(error) if isinstance(error, Violation) else repr(error)
    world.clock.crash = None
    world.check.over_and_done = True
    world.edge.loop.call_soon(world.edge.close)
    world.clock.run(world.clock.now)
    for loop in (world.edge.loop, world.network.loop):
        loop.kill()
    for worker in world.workers:
        worker.loop.kill()
        worker.engine.killed = True
    return Run(seed, world.history, world.clock.steps, failure)
