"""JetStream's work queue as far as it matters here: what nats-server does, call by call.

A hub that is restarted has forgotten all of it: the stream is in memory.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace.protocol import codec
from headrace.runtime.nats.bus import Message
from headrace.runtime.nats.jetstream import ACK, IN_PROGRESS, NAK, TERM
from tests.model.history import History, request_name
from tests.model.loop import Loop
from tests.model.network import Network, raw

NOT_FOUND = {"error": {"code": 404, "err_code": 10059, "description": "not found"}}
NO_MESSAGE = {"error": {"code": 404, "err_code": 10043, "description": "no message found"}}


@dataclass
class Stored:
    """One message."""

    seq: int
    lane: str
    subject: str
    data: bytes
    id: str

    @property
    def request(self) -> str:
        """The id of its request."""
        return self.id.partition(".")[0]


@dataclass
class Pull:
    """Somebody asks for messages."""

    reply: str
    left: int


@dataclass
class Consumer:
    """Of one lane."""

    ack_wait: float
    max_deliver: int
    fresh: deque[int] = field(default_factory=deque)
    again: deque[int] = field(default_factory=deque)
    due: dict[int, float] = field(default_factory=dict)
    """When what was given out is given to somebody else."""
    counts: dict[int, int] = field(default_factory=dict)
    """How often each was given out."""
    pulls: deque[Pull] = field(default_factory=deque)
    given: int = 0
    last: int = 0
    """The newest that was ever given out."""

    def forget(self, seq: int) -> None:
        """The message is gone."""
        self.due.pop(seq, None)
        self.counts.pop(seq, None)
        for waiting in (self.fresh, self.again):
            if seq in waiting:
                waiting.remove(seq)

    @property
    def pending(self) -> int:
        """What waits."""
        return len(self.fresh) + len(self.again)


class Queue:
    """The hub's JetStream."""

    def __init__(self, loop: Loop, network: Network, history: History) -> None:
        self._loop = loop
        self._network = network
        self._history = history
        self._epoch = 0
        self._seq = 0
        self._made = False
        self._ids: dict[str, int] = {}
        self._consumers: dict[str, Consumer] = {}
        self.messages: dict[int, Stored] = {}
        self.on_stored: Callable[[Stored], None] = lambda _: None
        self.on_ack: Callable[[Stored], None] = lambda _: None
        self.most = 0
        """The most that it ever held."""
        network.hub = self

    def restart(self) -> None:
        """Forget everything."""
        self._epoch += 1
        self._made = False
        self._seq = 0
        self._ids.clear()
        self._consumers.clear()
        self.messages.clear()

    def spent(self, stored: Stored) -> bool:
        """Whether it has been given out as often as it may be, and waits for its end."""
        consumer = self._consumers[stored.lane]
        return stored.seq not in consumer.fresh and consumer.counts.get(stored.seq, 0) >= 5

    def serve(self, subject: str, message: Message) -> bool:
        """Take a message in."""
        if subject.startswith("$JS.ACK."):
            self._on_ack(subject, message.data)
            return True
        if subject.startswith("hr.req."):
            return self._publish(subject, message)
        verb = subject.partition(".API.")[2]
        if verb.startswith("CONSUMER.MSG.NEXT."):
            return self._next(verb.rpartition(".")[2], message)
        asked = msgspec.json.decode(message.data) if message.data else {}
        self._answer(message.reply, self._api(verb, asked))
        return True

    def _api(self, verb: str, asked: dict[str, Any]) -> dict[str, Any]:
        words = verb.split(".")
        if verb.startswith("STREAM.CREATE."):
            if not self._made:
                self._seq = max(0, asked.get("first_seq", 1) - 1)
            self._made = True
            return {}
        if not self._made:
            return NOT_FOUND
        if verb.startswith("STREAM.MSG.DELETE."):
            return {} if self._remove(asked["seq"], "deleted") else NO_MESSAGE
        if verb.startswith("STREAM.PURGE."):
            return self._purge(asked["filter"].rpartition(".")[2])
        if verb.startswith("CONSUMER.CREATE."):
            config = asked["config"]
            name = words[3]
            if name not in self._consumers:
                wait, most = config["ack_wait"] / 1e9, config["max_deliver"]
                self._consumers[name] = Consumer(ack_wait=wait, max_deliver=most)
            return {}
        if verb.startswith("CONSUMER.INFO."):
            consumer = self._consumers.get(words[-1])
            return self._info(consumer) if consumer else NOT_FOUND
        counts = Counter(each.subject for each in self.messages.values())
        return {"state": {"subjects": dict(counts)}}

    def _purge(self, edge: str) -> dict[str, Any]:
        for each in [each for each in self.messages.values() if each.subject.endswith(edge)]:
            self._remove(each.seq, "purged")
        return {}

    def _info(self, consumer: Consumer) -> dict[str, Any]:
        return {
            "num_pending": len(consumer.fresh),
            "num_ack_pending": len(consumer.due) + len(consumer.again),
            "delivered": {"consumer_seq": consumer.given, "stream_seq": consumer.last},
        }

    def _publish(self, subject: str, message: Message) -> bool:
        headers = message.headers or {}
        id, ttl = headers["Nats-Msg-Id"], float(headers["Nats-TTL"].rstrip("s"))
        lane = "_".join(subject.split(".")[2:4])
        if not self._made or lane not in self._consumers:
            return False
        known = self._ids.get(id)
        if known is not None:
            self._answer(message.reply, {"seq": known, "duplicate": True})
            return True
        self._seq += 1
        self._ids[id] = self._seq
        stored = self.messages[self._seq] = Stored(self._seq, lane, subject, message.data, id)
        self.on_stored(stored)
        self.most = max(self.most, len(self.messages))
        if self._history.kept:
            request = codec.decode_request(message.data)
            after = "" if request.partial is None else f", after {request.partial.after}"
            self._note(self._seq, f"stored, attempts above {request.attempt}{after}")
        self._loop.call_later(ttl, self._expire, self._epoch, self._seq)
        self._consumers[lane].fresh.append(self._seq)
        self._answer(message.reply, {"seq": self._seq})
        self._give_out(lane)
        return True

    def _next(self, lane: str, message: Message) -> bool:
        consumer = self._consumers.get(lane)
        if consumer is None:
            return False
        asked = msgspec.json.decode(message.data)
        pull = Pull(message.reply, asked["batch"])
        consumer.pulls.append(pull)
        self._give_out(lane)
        if pull.left and asked.get("no_wait"):
            self._end(consumer, pull, "404")
        elif pull.left:
            seconds = asked["expires"] / 1e9
            self._loop.call_later(seconds, self._end, consumer, pull, "408")
        return True

    def _end(self, consumer: Consumer, pull: Pull, status: str) -> None:
        if pull.left and pull in consumer.pulls:
            consumer.pulls.remove(pull)
            self._network.send(None, pull.reply, Message(pull.reply, "", b"", raw({}, status)))

    def _give_out(self, lane: str) -> None:
        consumer = self._consumers[lane]
        while consumer.pending and consumer.pulls:
            pull = consumer.pulls[0]
            if not self._network.interested(pull.reply):
                consumer.pulls.popleft()
                continue
            seq = (consumer.again or consumer.fresh).popleft()
            count = consumer.counts.get(seq, 0) + 1
            if count > consumer.max_deliver:
                consumer.due.pop(seq, None)
                continue
            pull.left -= 1
            if not pull.left:
                consumer.pulls.popleft()
            self._deliver(lane, consumer, seq, count, pull.reply)

    def _deliver(self, lane: str, consumer: Consumer, seq: int, count: int, to: str) -> None:
        consumer.counts[seq] = count
        consumer.given += 1
        consumer.last = max(consumer.last, seq)
        now = self._loop.time()
        consumer.due[seq] = now + consumer.ack_wait
        self._loop.call_later(consumer.ack_wait, self._overdue, self._epoch, lane, seq)
        reply = f"$JS.ACK.REQUESTS.{lane}.{count}.{seq}.{consumer.given}.0.{consumer.pending}"
        stored = self.messages[seq]
        self._network.send(None, to, Message(stored.subject, reply, stored.data))
        self._note(seq, f"given out, {count}. time, to {to.split('.')[2].rstrip('0')}")

    def _overdue(self, epoch: int, lane: str, seq: int) -> None:
        if epoch != self._epoch:
            return
        consumer = self._consumers[lane]
        due = consumer.due.get(seq)
        if due is None:
            return
        if due > self._loop.time():
            self._loop.call_at(due, self._overdue, epoch, lane, seq)
            return
        self._note(seq, "overdue")
        self._redeliver(lane, seq)

    def _redeliver(self, lane: str, seq: int) -> None:
        consumer = self._consumers[lane]
        del consumer.due[seq]
        consumer.again.append(seq)
        self._give_out(lane)

    def _on_ack(self, subject: str, verb: bytes) -> None:
        words = subject.split(".")
        lane, seq = words[3], int(words[5])
        consumer = self._consumers.get(lane)
        if consumer is None or seq > consumer.last:
            return  # of a stream before a restart, or not given out yet
        now = self._loop.time()
        if verb == IN_PROGRESS:
            if seq in consumer.due:
                consumer.due[seq] = now + consumer.ack_wait
        elif verb in (ACK, TERM):
            stored = self.messages.get(seq)
            if stored is not None:
                self.on_ack(stored)
                self._remove(seq, "acknowledged")
        elif verb.startswith(NAK) and seq in consumer.due:
            later = msgspec.json.decode(verb[len(NAK) :] or b"{}").get("delay", 0) / 1e9
            self._note(seq, f"given back, for {later:g} s later" if later else "given back")
            consumer.due[seq] = now + later
            if later:
                self._loop.call_later(later, self._overdue, self._epoch, lane, seq)
            else:
                self._redeliver(lane, seq)

    def _expire(self, epoch: int, seq: int) -> None:
        if epoch == self._epoch:
            self._remove(seq, "expired")

    def _remove(self, seq: int, why: str) -> bool:
        if seq not in self.messages:
            return False
        self._note(seq, why)
        stored = self.messages.pop(seq)
        self._consumers[stored.lane].forget(seq)
        return True

    def _answer(self, reply: str, content: dict[str, Any]) -> None:
        self._network.send(None, reply, Message(reply, "", msgspec.json.encode(content)))

    def _note(self, seq: int, what: str) -> None:
        if self._history.kept:
            stored = self.messages[seq]
            name = f"{request_name(stored.request)}.{stored.id.partition('.')[2]}"
            self._history.note(self._loop.time(), "queue", f"message {seq} ({name}) {what}")
