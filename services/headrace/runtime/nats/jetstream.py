"""The few calls of JetStream's API that Headrace makes, typed.

Source: https://docs.nats.io/reference/reference-protocols/nats_api_reference. Durations are in
nanoseconds on the wire and in seconds here.
"""

import time
from typing import Final

import msgspec

from headrace.protocol import names, subjects
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.names import LANES, ProcessId, Slug
from headrace.runtime.nats.bus import Bus, BusError

ACK_WAIT_SECONDS: Final = 10.0
"""After this long without a sign of life from its worker a request is given to another one."""

PROGRESS_SECONDS: Final = 3.0
"""How often a worker gives that sign: two may be lost."""

MAX_DELIVER: Final = 5
"""A request that was given out this often is not given out again."""

MAX_ACK_PENDING: Final = 65_536
"""Requests in work at once per model and lane: above any real number of slots."""

DEDUPE_SECONDS: Final = 7200.0
"""Publishing a request again within this time is harmless. Must exceed the longest deadline."""

_NANO: Final = 1_000_000_000

_MAXIMUM_EXCEEDED: Final = frozenset({10047, 10077})
"""JetStream's error codes for a stream (or its memory) that is full."""

_NOT_FOUND: Final = frozenset({10014, 10037, 10059})

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
IN_PROGRESS: Final = b"+WPI"
TERM: Final = b"+TERM"


class JetStreamError(Exception):
    """JetStream refused; `code` is its error code."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None


class PubAck(msgspec.Struct):
    """The stream has the message, as its number `seq`."""

    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


class Position(msgspec.Struct):
    """Sequence numbers up to which a consumer has come."""

    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerInfo(msgspec.Struct):
    """How much a consumer still has to give out, and how much is in work."""

    num_pending: int = 0
    num_ack_pending: int = 0
    num_redelivered: int = 0
    delivered: Position = msgspec.field(default_factory=Position)
    error: _Error | None = None


class _State(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _StreamInfo(msgspec.Struct):
    state: _State = msgspec.field(default_factory=_State)
    error: _Error | None = None


class QueueLimits(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The bounds of the stream; at each of them a new request is refused with ``queue_full``."""

    max_requests: int = 100_000
    max_requests_per_lane: int = 100_000
    """Of one model and one edge process."""
    max_bytes: int = 1 << 30


_puback: Final = msgspec.json.Decoder(PubAck)
_consumer_info: Final = msgspec.json.Decoder(ConsumerInfo)
_stream_info: Final = msgspec.json.Decoder(_StreamInfo)
_answer: Final = msgspec.json.Decoder(_Answer)
_json: Final = msgspec.json.Encoder()


class JetStream:
    """JetStream through `bus`; with `domain`, that of another server across a leaf link."""

    def __init__(self, bus: Bus, domain: str = "", timeout: float = 5.0) -> None:
        self._bus = bus
        self._api = f"$JS.{domain}.API" if domain else "$JS.API"
        self._timeout = timeout

    async def ensure_queue(self, limits: QueueLimits) -> None:
        """Make the stream of requests as we want it, whatever it was before."""
        config = {
            "name": subjects.STREAM,
            "subjects": [subjects.REQUESTS],
            "retention": "workqueue",
            "storage": "memory",  # prompts are never at rest (invariant 4)
            "discard": "new",
            "discard_new_per_subject": True,
            "max_msgs": limits.max_requests,
            "max_msgs_per_subject": limits.max_requests_per_lane,
            "max_bytes": limits.max_bytes,
            "max_age": int(DEDUPE_SECONDS * _NANO),
            "duplicate_window": int(DEDUPE_SECONDS * _NANO),
            "max_consumers": -1,
            "num_replicas": 1,
            "allow_msg_ttl": True,
            "allow_direct": False,
        }
        try:
            await self._call(f"STREAM.UPDATE.{subjects.STREAM}", config)
        except JetStreamError as error:
            if error.code not in _NOT_FOUND:
                raise
            # A hub that was restarted must not give a number again: an acknowledgement or a delete
            # that is still under way would take another request's message out.
            first = int(time.time() * 1_000_000)
            await self._call(f"STREAM.CREATE.{subjects.STREAM}", config | {"first_seq": first})

    async def ensure_consumers(self, model: Slug) -> None:
        """Make one durable pull consumer for every lane of `model`."""
        for lane in LANES:
            name = subjects.consumer(model, lane)
            subject = subjects.requests(model, lane)
            config = {
                "durable_name": name,
                "filter_subject": subject,
                "ack_policy": "explicit",
                "ack_wait": int(ACK_WAIT_SECONDS * _NANO),
                "max_deliver": MAX_DELIVER,
                "max_ack_pending": MAX_ACK_PENDING,
                "max_waiting": 4096,
                "deliver_policy": "all",
                "replay_policy": "instant",
                "mem_storage": True,
            }
            await self._call(
                f"CONSUMER.CREATE.{subjects.STREAM}.{name}.{subject}",
                {"stream_name": subjects.STREAM, "config": config},
            )

    async def publish(
        self, model: Slug, lane: str, edge: ProcessId, data: bytes, *, id: str, ttl_seconds: float
    ) -> PubAck:
        """Put a request of `edge` into the queue, once however often that is done with one `id`.

        Raises HeadraceError ``queue_full`` at a bound of the queue, and ``service_unavailable``
        where the queue can't be reached.
        """
        headers = {"Nats-Msg-Id": id, "Nats-TTL": f"{max(1, round(ttl_seconds))}s"}
        try:
            answer = await self._bus.request(
                subjects.request(model, lane, edge), data, timeout=self._timeout, headers=headers
            )
        except BusError as error:
            raise HeadraceError(
                Code.UNAVAILABLE, "The request queue cannot be reached right now.", retry_after=2
            ) from error
        ack = _puback.decode(answer)
        if ack.error is None:
            return ack
        if ack.error.err_code in _MAXIMUM_EXCEEDED:
            raise HeadraceError(
                Code.QUEUE_FULL, "Too many requests are waiting already.", retry_after=10
            )
        raise HeadraceError(Code.UNAVAILABLE, "The request queue refused the request.")

    async def delete(self, seq: int) -> bool:
        """Take message `seq` out of the queue; False if it is there no more."""
        try:
            # no_erase: memory needs no overwriting, and it is what costs time.
            await self._call(f"STREAM.MSG.DELETE.{subjects.STREAM}", {"seq": seq, "no_erase": True})
        except JetStreamError as error:
            if error.code in _NOT_FOUND or error.code == 10043:
                return False
            raise
        return True

    async def purge(self, edge: ProcessId) -> None:
        """Take all requests of `edge` out of the queue. Raises JetStreamError, BusError."""
        await self._call(f"STREAM.PURGE.{subjects.STREAM}", {"filter": subjects.requests_of(edge)})

    async def edges(self) -> set[str]:
        """The edges that have requests in the queue, given out or not. Raises as `purge`."""
        answer = await self._bus.request(
            f"{self._api}.STREAM.INFO.{subjects.STREAM}",
            _json.encode({"subjects_filter": subjects.REQUESTS}),
            timeout=self._timeout,
        )
        info = _stream_info.decode(answer)
        if info.error is not None:
            raise JetStreamError(info.error.err_code, info.error.description)
        found = {subjects.last_name(subject) for subject in info.state.subjects or ()}
        return {edge for edge in found if names.is_process_id(edge)}  # before them: of old versions

    async def consumer_info(self, model: Slug, lane: str) -> ConsumerInfo:
        """What one lane of `model` holds. Raises JetStreamError, BusError."""
        name = subjects.consumer(model, lane)
        answer = await self._bus.request(
            f"{self._api}.CONSUMER.INFO.{subjects.STREAM}.{name}", b"", timeout=self._timeout
        )
        info = _consumer_info.decode(answer)
        if info.error is not None:
            raise JetStreamError(info.error.err_code, info.error.description)
        return info

    def pull(self, model: Slug, lane: str, *, reply: str, batch: int, expires: float = 0.0) -> None:
        """Ask for up to `batch` requests of a lane, to be sent to `reply` within `expires` seconds.

        With `expires` 0 only what is there at once is sent. What ends a pull early or leaves it
        short is told by a message with a ``Status`` header. Raises BusError.
        """
        name = subjects.consumer(model, lane)
        if expires:
            body = b'{"batch":%d,"expires":%d}' % (batch, int(expires * _NANO))
        else:
            body = b'{"batch":%d,"no_wait":true}' % batch
        self._bus.send(f"{self._api}.CONSUMER.MSG.NEXT.{subjects.STREAM}.{name}", body, reply=reply)

    async def _call(self, verb: str, body: object) -> None:
        data = await self._bus.request(
            f"{self._api}.{verb}", _json.encode(body), timeout=self._timeout
        )
        answer = _answer.decode(data)
        if answer.error is not None:
            raise JetStreamError(answer.error.err_code, answer.error.description)


class Delivery(msgspec.Struct, frozen=True):
    """What a delivered message's reply subject tells about it."""

    stream_seq: int
    delivered: int
    """How often the message was given out, this time included."""
    pending: int
    """How many more messages the consumer had at that moment."""


def delivery_of(reply: str) -> Delivery:
    """Read ``$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time>.<pending>``.

    Servers may put a domain and an account hash behind ``ACK``, and a random token at the end
    (ADR-15 of NATS). Raises ValueError for anything else.
    """
    tokens = reply.split(".")
    if len(tokens) >= 11:
        tokens = tokens[:2] + tokens[4:]
    if len(tokens) < 9 or tokens[:2] != ["$JS", "ACK"]:
        raise ValueError("not an acknowledgement subject")
    return Delivery(stream_seq=int(tokens[5]), delivered=int(tokens[4]), pending=int(tokens[8]))
