"""What can go wrong, as a table; how it begins and how it ends."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec

from tests.faults.harness.clients import Client, session
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.site import MODEL, Site
from tests.faults.harness.verdict import Asked, Edge

TRICKLE: Final = 4000.0
"""Bytes a second: about twenty tokens."""
DELAY: Final = 0.15

FLOOD_BYTES: Final = 1_000_000
FLOODS: Final = 24


class Fault(msgspec.Struct, frozen=True):
    """A part, what happens to it, and for how long.

    `kill`, `term` and `stop` are signals; `down` is a kill after which it stays away; `cut`,
    `refuse`, `freeze`, `forget`, `lose`, `delay` and `trickle` happen to the way that the part
    dials: with `lose`, all that is sent for so long is lost with the connection in the end.
    `files`, `disk` and `memory` are limits. `tear` lets the first word about a request through,
    and then its machine dies.
    """

    part: str
    kind: str
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.part} {self.kind}" + (f" {self.seconds:g} s" if self.seconds else "")


FAULTS: Final = (
    Fault("edge", "kill"),
    Fault("edge", "term"),
    Fault("edge", "stop", 3),
    Fault("edge", "cut"),
    Fault("edge", "refuse", 3),
    Fault("edge", "freeze", 6),
    Fault("edge", "forget"),
    Fault("edge", "lose", 1),
    Fault("edge", "delay", 5),
    Fault("edge", "trickle", 5),
    Fault("edge", "files", 4),
    Fault("bridge", "kill"),
    Fault("bridge", "down", 6),
    Fault("bridge", "term"),
    Fault("bridge", "stop", 5),
    Fault("bridge", "files", 4),
    Fault("ssh", "kill"),
    Fault("ssh", "cut"),
    Fault("ssh", "refuse", 8),
    Fault("ssh", "refuse", 20),
    Fault("ssh", "freeze", 8),
    Fault("ssh", "freeze", 20),
    Fault("ssh", "forget"),
    Fault("ssh", "lose", 1),
    Fault("ssh", "delay", 5),
    Fault("ssh", "trickle", 6),
    Fault("gate", "kill"),
    Fault("gate", "stop", 6),
    Fault("leaf", "kill"),
    Fault("leaf", "down", 5),
    Fault("leaf", "term"),
    Fault("leaf", "stop", 5),
    Fault("leaf", "files", 4),
    Fault("hub", "kill"),
    Fault("hub", "down", 4),
    Fault("hub", "term"),
    Fault("hub", "stop", 4),
    Fault("hub", "cut"),
    Fault("hub", "freeze", 6),
    Fault("hub", "forget"),
    Fault("hub", "lose", 1),
    Fault("hub", "files", 4),
    Fault("hub", "memory"),
    Fault("hub", "disk", 4),
    Fault("worker", "kill"),
    Fault("worker", "tear"),
    Fault("worker", "down", 20),
    Fault("worker", "term"),
    Fault("worker", "stop", 4),
    Fault("worker", "stop", 22),
    Fault("worker", "cut"),
    Fault("worker", "refuse", 5),
    Fault("worker", "freeze", 6),
    Fault("worker", "freeze", 22),
    Fault("worker", "forget"),
    Fault("worker", "lose", 1),
    Fault("worker", "delay", 5),
    Fault("worker", "trickle", 5),
    Fault("worker", "files", 4),
    Fault("worker", "disk", 6),
    Fault("engine", "kill"),
    Fault("engine", "stop", 3),
    Fault("engine", "stop", 12),
)
PARTS: Final = tuple(dict.fromkeys(fault.part for fault in FAULTS))

_SIGNALS: Final = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}


class Blow(msgspec.Struct):
    """A fault that has been chosen for a place: which worker, if it is one's."""

    fault: Fault
    worker: str

    @property
    def part(self) -> str:
        """The part's name in the site."""
        return {"worker": self.worker, "ssh": "sshd"}.get(self.fault.part, self.fault.part)

    @property
    def edge(self) -> Edge:
        """What becomes of the edge, and so of its clients' connections."""
        if self.fault.part != "edge":
            return Edge.UP
        return {"kill": Edge.KILLED, "term": Edge.STOPPED}.get(self.fault.kind, Edge.UP)

    @property
    def door(self) -> Edge:
        """The same for who comes while it lasts: without files the edge takes no connection in."""
        closed = self.fault == Fault("edge", "files", self.fault.seconds)
        return Edge.STOPPED if closed else self.edge

    @property
    def ends(self) -> bool:
        """Whether the part's process comes to its end, and another one in its place."""
        signals = self.fault.kind in {"kill", "term", "down", "tear", "disk"}
        return signals and self.fault.part not in {"ssh", "gate", "engine"}

    async def strike(self, site: Site) -> list[Client]:
        """Begin. What a flood has asked comes back, for it must end well too."""
        match self.fault.kind:
            case "kill" | "term" | "stop" | "down":
                self._signal(site)
            case "cut" | "refuse" | "freeze" | "forget" | "lose" | "delay" | "trickle":
                self._hit_way(site)
            case "tear":
                self._way(site).tear(first_word)
                _kill(site.parts[self.part].pid, signal.SIGKILL)
            case "files":
                site.parts[self.part].limit_files(0)
            case "disk":
                site.disks[self.part].fill()
                site.parts[self.part].send(signal.SIGTERM)
            case "memory":
                return await flood(site)
        return []

    def mend(self, site: Site) -> None:
        """End, for what does not end by itself."""
        match self.fault.kind:
            case "stop":
                for pid in self._pids(site):
                    _kill(pid, signal.SIGCONT)
            case "down":
                site.parts[self.part].let_up()
            case "refuse" | "freeze" | "delay" | "trickle":
                self._way(site).heal()
            case "lose":
                self._way(site).cut()
                self._way(site).heal()
            case "files":
                site.parts[self.part].limit_files(None)
            case "disk":
                site.disks[self.part].free()

    def possible(self, site: Site) -> bool:
        """Whether this machine can do it."""
        return self.fault.kind != "disk" or site.disks[self.part].here

    def _signal(self, site: Site) -> None:
        if self.fault.kind == "down":
            site.parts[self.part].keep_down()
        if self.fault.part == "worker" and self.fault.kind in {"kill", "down"}:
            # A machine that dies takes along what it had not sent.
            site.way(self.worker).cut()
        number = _SIGNALS.get(self.fault.kind, signal.SIGKILL)
        for pid in self._pids(site):
            _kill(pid, number)

    def _pids(self, site: Site) -> list[int]:
        match self.fault.part:
            case "ssh":
                return site.sessions()
            case "gate":
                return site.gates()
            case "engine":
                return [site.engine_pid(self.worker)]
            case _:
                return [site.parts[self.part].pid]

    def _hit_way(self, site: Site) -> None:
        way = self._way(site)
        match self.fault.kind:
            case "cut":
                way.cut()
            case "refuse":
                way.refuse()
            case "freeze":
                way.freeze()
            case "forget":
                way.forget()
            case "lose":
                way.hold(up=True, down=True)
            case "delay":
                way.slow(delay=DELAY)
            case "trickle":
                way.slow(rate=TRICKLE)

    def _way(self, site: Site) -> Proxy:
        return site.way({"ssh": "bridge"}.get(self.fault.part, self.part))


def first_word(held: bytes) -> int:
    """Where the first message about a request ends, among what a worker sends to its server."""
    at = 0
    while (end := held.find(b"\r\n", at)) >= 0:
        verb, _, rest = held[at:end].partition(b" ")
        after = end + 2
        if verb.upper() in {b"PUB", b"HPUB"}:
            after += int(rest.rpartition(b" ")[2]) + 2
            if after > len(held):
                break
            if rest.startswith((b"hr.res.", b"$JS.ACK.")):
                return after
        at = after
    return at


def _kill(pid: int, number: signal.Signals) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def flood(site: Site) -> list[Client]:
    """More bytes of requests than the queue may hold, all at once, by somebody else.

    They may be held where the others are: the caller waits for their ends when it has let go.
    """
    asked = [Asked(f"flood {n} " + "x" * FLOOD_BYTES, 2) for n in range(FLOODS)]
    clients = [Client(each) for each in asked]
    started = asyncio.Event()

    async def ask() -> None:
        async with session(site.key, site.plan.deadline_seconds) as http:
            for client in clients:
                client.start(http, site.url, MODEL)
            started.set()
            await asyncio.gather(*(client.end() for client in clients))

    site.asides.append(asyncio.create_task(ask()))
    await started.wait()
    return clients


def choices(seed: int, workers: list[str], faults: tuple[Fault, ...] = FAULTS) -> Iterator[Blow]:
    """Faults without end, the same ones for the same seed; every part is as likely as another."""
    chance = random.Random(seed)
    by_part = {part: [each for each in faults if each.part == part] for part in PARTS}
    parts = [part for part, each in by_part.items() if each]
    while True:
        fault = chance.choice(by_part[chance.choice(parts)])
        yield Blow(fault, chance.choice(workers))
