"""The bus between the processes: links that drop, delay, double, reorder, and can be cut.

A message goes from its sender over the sender's link to the hub, and over the receiver's link to
the receiver. On an undisturbed link messages keep their order, as on the connections of NATS.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from headrace.protocol import codec
from headrace.runtime.nats.bus import Bus as RealBus
from headrace.runtime.nats.bus import BusError, BusTimeout, Message, NoResponders
from tests.model.history import History, control_text, frame_text, request_name
from tests.model.loop import Loop

Callback = Callable[[Message], None]


def raw(headers: dict[str, str], status: str = "") -> bytes:
    """Headers as they travel."""
    if not headers and not status:
        return b""
    lines = [f"NATS/1.0 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode()


DIRECT_SECONDS = 0.01
NO_RESPONDERS = raw({}, "503")


@dataclass
class Noise:
    """How often a link does what to a message."""

    drop: float = 0.0
    double: float = 0.0
    reorder: float = 0.0
    late: float = 0.0
    """The longest additional delay, of a message that is overtaken by others."""


class Link:
    """Between the hub and one place: a cluster, or the edge's own machine."""

    def __init__(self, name: str, latency: float, random: Random) -> None:
        self.name = name
        self.latency = latency
        self.noise = Noise()
        self.cut = ""
        """``lost``: nothing passes, and both ends know; ``silent``: they don't; ``stalled``: what
        is sent comes when it is mended."""
        self.mended_at = 0.0
        self._random = random
        self._last = {True: 0.0, False: 0.0}

    def cross(self, at: float, *, up: bool) -> list[float]:
        """When a message that is sent at that time arrives, each copy of it."""
        if self.cut in ("lost", "silent"):
            return []
        start = max(at, self.mended_at) if self.cut else at
        arrival = self._last[up] = max(self._last[up], start + self.latency)
        noise = self.noise
        if not (noise.drop or noise.double or noise.reorder):
            return [arrival]
        random = self._random.random
        copies = 0 if random() < noise.drop else 2 if random() < noise.double else 1
        return [
            arrival + (random() * noise.late if random() < noise.reorder else 0.0)
            for _ in range(copies)
        ]


class Hub(Protocol):
    """What serves the queue's subjects."""

    def serve(self, subject: str, message: Message) -> bool:
        """Take a message in; False where nobody listens to its subject."""


class Network:
    """Knows every process's bus."""

    def __init__(self, loop: Loop, history: History) -> None:
        self.loop = loop
        self.history = history
        self.hub: Hub | None = None
        self.up = True
        """Whether the hub runs."""
        self._epoch = 0
        self._buses: list[Bus] = []
        self._routes: dict[str, list[tuple[Bus, Callback]]] = {}

    def add(self, bus: "Bus") -> None:
        """A process connects."""
        self._buses.append(bus)
        self._routes.clear()

    def remove(self, bus: "Bus") -> None:
        """A process has gone."""
        self._buses.remove(bus)
        self._routes.clear()

    def changed(self) -> None:
        """Somebody has subscribed."""
        self._routes.clear()

    def hub_down(self) -> None:
        """The hub ends, and with it what is under way."""
        self.up = False
        self._epoch += 1
        for each in list(self._buses):
            each.lost()

    def hub_up(self) -> None:
        """The hub is back."""
        self.up = True
        for each in list(self._buses):
            each.found()

    def interested(self, subject: str) -> bool:
        """Whether the hub knows somebody who listens to this subject."""
        return any(bus.link.cut != "lost" for bus, _ in self._listeners(subject))

    def send(self, sender: "Bus | None", subject: str, message: Message) -> None:
        """From a process, or from the hub itself."""
        now, name = self.loop.time(), sender.name if sender else "queue"
        if sender is None:
            arrivals = [now]
        else:
            arrivals = sender.link.cross(now, up=True) if self.up else []
            if sender.link.cut == "lost" and message.reply and subject.startswith("$JS."):
                self.no_responders(sender, message.reply)
        if self.history.kept:
            self._note(name, subject, message, arrivals)
        for arrival in arrivals:
            # What is not held up need not be looked at again at the hub: half the events.
            if arrival - now > DIRECT_SECONDS or subject.startswith(("hr.req.", "$JS.")):
                self.loop.call_at(arrival, self._at_hub, self._epoch, subject, message)
            else:
                self._forward(arrival, subject, message)

    def _forward(self, at: float, subject: str, message: Message) -> None:
        for bus, callback in self._listeners(subject):
            for when in bus.link.cross(at, up=False):
                bus.loop.call_at(when, self._deliver, self._epoch, callback, message)

    def no_responders(self, bus: "Bus", reply: str) -> None:
        """Tell a process that nobody hears what it says."""
        message = Message(reply, "", b"", NO_RESPONDERS)
        for _, callback in self._listeners(reply):
            bus.loop.call_later(bus.link.latency, callback, message)

    def _at_hub(self, epoch: int, subject: str, message: Message) -> None:
        if epoch != self._epoch or self.hub is None:
            return
        if not subject.startswith(("hr.req.", "$JS.")):
            self._forward(self.loop.time(), subject, message)
        elif not self.hub.serve(subject, message) and message.reply:
            gone = Message(message.reply, "", b"", NO_RESPONDERS)
            self.send(None, message.reply, gone)

    def _deliver(self, epoch: int, callback: Callback, message: Message) -> None:
        if epoch == self._epoch:
            callback(message)

    def _listeners(self, subject: str) -> list[tuple["Bus", Callback]]:
        found = self._routes.get(subject)
        if found is None:
            found = self._routes[subject] = [
                (bus, callback)
                for bus in self._buses
                for pattern, callback in bus.subscriptions
                if pattern == subject
                or (pattern[-1] in ">*" and subject.startswith(pattern.rstrip(">*")))
            ]
        return found

    def _note(self, who: str, subject: str, message: Message, arrivals: list[float]) -> None:
        text = told(subject, message)
        if text:
            note = "" if len(arrivals) == 1 else f"  ({len(arrivals)} copies)" if arrivals else ""
            lost = "" if arrivals else "  LOST"
            self.history.note(self.loop.time(), who, f"{text}{note}{lost}")


def told(subject: str, message: Message) -> str:
    """A message in few words; empty for what is of no interest."""
    if subject.startswith("hr.res."):
        frames = codec.decode_frames(subject, message.data)
        each = (f"{request_name(request)} {frame_text(frame)}" for request, frame in frames)
        return f"-> {', '.join(each)}"
    if subject.startswith("hr.ctl."):
        to = subject.removeprefix("hr.ctl.").rstrip("0")
        return f"-> {to} {control_text(codec.decode_control(message.data))}"
    return ""


class Bus(RealBus):
    """A process's connection, with the manners of the real one."""

    def __init__(self, network: Network, loop: Loop, link: Link, *, name: str, inbox: str) -> None:
        self.network = network
        self.loop = loop
        self.link = link
        self.name = name
        self.direct = False
        """Whether it is connected to the hub itself, and sees it go; workers see their leaf."""
        self.subscriptions: list[tuple[str, Callback]] = []
        self._inbox = inbox
        self._up = True
        self._waiting: list[tuple[str, Message]] = []
        self._answers: dict[str, asyncio.Future[Message]] = {}
        self._count = 0
        self._on_reconnect: list[Callable[[], None]] = []
        self.subscriptions.append((f"{inbox}.r.*", self._on_answer))
        network.add(self)

    @property
    def connected(self) -> bool:
        """Whether its server is there."""
        return self._up

    @property
    def inbox(self) -> str:
        """The prefix of what only it receives."""
        return self._inbox

    @property
    def waiting(self) -> int:
        """Bytes that wait for the connection."""
        return sum(len(message.data) for _, message in self._waiting)

    @property
    def asked(self) -> int:
        """Questions that wait for an answer."""
        return len(self._answers)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call it whenever the connection is back."""
        self._on_reconnect.append(callback)

    async def subscribe(self, subject: str, callback: Callback) -> None:
        """Call it with every message of `subject`."""
        self.subscriptions.append((subject, callback))
        self.network.changed()

    def send(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Send, now or once connected."""
        self._put(subject, Message(subject, reply, data))

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """As `send`."""
        self.send(subject, data, reply=reply)

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: dict[str, str] | None = None
    ) -> bytes:
        """Ask, and wait for the answer."""
        self._count += 1
        reply = f"{self._inbox}.r.{self._count}"
        answer = self._answers[reply] = self.loop.create_future()
        try:
            self._put(subject, Message(subject, reply, data, raw(headers or {})))
            async with asyncio.timeout(timeout):
                message: Message = await answer
        except TimeoutError:
            raise BusTimeout(subject) from None
        finally:
            del self._answers[reply]
        if not message.data and (message.headers or {}).get("Status") == "503":
            raise NoResponders(subject)
        return message.data

    async def flush(self, timeout: float = 2.0) -> None:
        """The server is at hand."""
        if not self._up:
            raise BusError("not connected")

    def lost(self) -> None:
        """The hub has gone."""
        self._up = not self.direct

    def found(self) -> None:
        """The hub is back."""
        if self._up:
            return
        self._up = True
        waiting, self._waiting = self._waiting, []
        for subject, message in waiting:
            self._put(subject, message)
        for callback in self._on_reconnect:
            self.loop.call_soon(callback)

    def _put(self, subject: str, message: Message) -> None:
        if self._up:
            self.network.send(self, subject, message)
        else:
            self._waiting.append((subject, message))

    def _on_answer(self, message: Message) -> None:
        answer = self._answers.get(message.subject)
        if answer is not None and not answer.done():
            answer.set_result(message)
