"""The wire: golden vectors, round trips, hostile bytes, other versions."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol import codec, frames, names, subjects
from headrace.protocol.control import Cancel, Control, Credit, Gone, Resume
from headrace.protocol.endpoints import ENGINE_PATHS, Endpoint
from headrace.protocol.errors import KINDS, Code, HeadraceError
from headrace.protocol.names import LANES, ProcessId, RequestId, Slug
from headrace.protocol.plan import Facts, Interval, ModelPhase, Plan
from headrace.protocol.requests import VERSION, Partial, Preamble, Request
from headrace.protocol.state import WorkerPhase, WorkerState

VECTORS = Path(__file__).parents[3] / "protocol" / "vectors" / "messages.json"
ID = "0123456789abcdef0123456789abcdef"
EDGE = "e0e0e0e0e0e0e0e0"
WORKER = "f1f1f1f1f1f1f1f1"

EXAMPLES: dict[str, codec.Message] = {
    "request": Request(
        version=1,
        id=ID,
        edge=EDGE,
        endpoint=Endpoint.CHAT,
        model="smollm2",
        stream=True,
        body=b'{"model":"m"}',
        deadline=1800000000.5,
        attempt=2,
        tenant="a1b2",
        trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        partial=Partial(512, "chatcmpl-1", 1800000000, "Once", b"\x01\0\0\0", 1, "stop"),
    ),
    "accepted": frames.Accepted(1, 0, WORKER, "north", 512),
    "head": frames.Head(1, 1, 200, "text/event-stream"),
    "chunk": frames.Chunk(1, 2, b"data: {}\n\n", b"\x01\0\0\0"),
    "end": frames.End(1, 3, frames.Usage(7, 30), frames.Timings(0.25, 1.5, 0.75)),
    "fail": frames.Fail(
        1,
        3,
        Code.ENGINE_FAILED,
        "The engine died.",
        retryable=True,
        usage=frames.Usage(7, 4),
        timings=frames.Timings(0.25, 1.0, 0.5),
        retry_after=20,
    ),
    "cancel": Cancel(ID, 2),
    "credit": Credit(ID, 1, 2097152),
    "gone": Gone(EDGE),
    "resume": Resume(ID, EDGE, 1, 17),
    "plan": Plan(
        version=1,
        cluster="north",
        model="smollm2",
        facts=Facts("SmolLM2", (Endpoint.CHAT,), "text", "A small model.", "everyone"),
        phase=ModelPhase.PENDING,
        sent=1800000000.0,
        desired=2,
        pending=2,
        ready_in=Interval(40.0, 90.0),
        each=Interval(2.0, 8.0),
        reason="Resources",
    ),
    "state": WorkerState(
        1, "north", "smollm2", WORKER, WorkerPhase.READY, 8, 3, "", 1800000000.0, 4711, "gpu1", 99
    ),
}


def decode(name: str, data: bytes) -> codec.Message:
    """Decode with the function that the message's receiver uses."""
    if name == "request":
        return codec.decode_request(data)
    if name in {"cancel", "credit", "gone", "resume"}:
        return codec.decode_control(data)
    if name == "plan":
        return codec.decode_plan(data)
    if name == "state":
        return codec.decode_state(data)
    return codec.decode_frame(data)


def test_golden_vectors_hold_every_message() -> None:
    assert set(json.loads(VECTORS.read_text())) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_bytes_on_the_wire_stay_as_they_are(name: str) -> None:
    golden = bytes.fromhex(json.loads(VECTORS.read_text())[name])
    assert codec.encode(EXAMPLES[name]) == golden
    assert decode(name, golden) == EXAMPLES[name]


OLDER: dict[str, codec.Message] = {
    "95a165010392071e92cb3fd0000000000000cb3ff8000000000000": frames.End(
        1, 3, frames.Usage(7, 30), frames.Timings(0.25, 1.5)
    ),
    "96a1660103ad656e67696e655f6661696c6564b054686520656e67696e6520646965642ec3": frames.Fail(
        1, 3, Code.ENGINE_FAILED, "The engine died.", retryable=True
    ),
}


@pytest.mark.parametrize("sent", OLDER)
def test_what_an_older_worker_sends_is_understood(sent: str) -> None:
    assert codec.decode_frame(bytes.fromhex(sent)) == OLDER[sent]


def test_frames_of_several_requests_travel_as_one_message() -> None:
    chunk, end = EXAMPLES["chunk"], EXAMPLES["end"]
    other = "f" * 32
    data = codec.encode_many(
        [(ID, codec.encode(chunk)), (other, codec.encode(end)), (ID, codec.encode(end))]
    )
    subject = subjects.responses_together(ProcessId(EDGE))
    assert codec.decode_frames(subject, data) == [(ID, chunk), (other, end), (ID, end)]
    alone = subjects.response(ProcessId(EDGE), RequestId(ID))
    assert list(codec.decode_frames(alone, codec.encode(chunk))) == [(ID, chunk)]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", codec.encode(EXAMPLES["chunk"]), codec.encode_many([(ID, b"\xc1")]),
     codec.encode_many([(ID, codec.encode(EXAMPLES["cancel"]))])],
)  # fmt: skip
def test_a_message_of_frames_that_is_none_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(HeadraceError) as refused:
        codec.decode_frames(f"hr.res.{EDGE}.many", data)
    assert refused.value.code == Code.BAD_MESSAGE


def test_what_a_newer_worker_sends_more_is_not_minded() -> None:
    """As edges of before `Fail.usage` read it, they who know less."""

    class Fail(msgspec.Struct, array_like=True, tag="f"):
        attempt: int
        seq: int
        code: Code
        message: str
        retryable: bool

    assert msgspec.msgpack.decode(codec.encode(EXAMPLES["fail"]), type=Fail).seq == 3


@given(
    attempt=st.integers(0, 2**31), seq=st.integers(0, 2**31), data=st.binary(max_size=200)
)  # fmt: skip
def test_chunks_come_back_as_they_went(attempt: int, seq: int, data: bytes) -> None:
    chunk = frames.Chunk(attempt, seq, data)
    assert codec.decode_frame(codec.encode(chunk)) == chunk


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_typed_error(data: bytes) -> None:
    for read in (
        codec.decode_frame,
        codec.decode_control,
        codec.decode_request,
        codec.decode_state,
        codec.decode_plan,
    ):
        try:
            read(data)
        except HeadraceError as error:
            assert error.code in {Code.BAD_MESSAGE, Code.UNSUPPORTED_VERSION}  # noqa: PT017


@given(
    name=st.sampled_from(sorted(EXAMPLES)), cut=st.integers(0, 400), flip=st.integers(0, 8 * 400)
)
def test_torn_and_flipped_messages_never_escape_the_codec(name: str, cut: int, flip: int) -> None:
    data = bytearray(codec.encode(EXAMPLES[name]))
    data[flip // 8 % len(data)] ^= 1 << flip % 8
    for damaged in (bytes(data), bytes(data[:cut])):
        with contextlib.suppress(HeadraceError):
            decode(name, damaged)


def test_an_unknown_version_says_whom_to_answer() -> None:
    later = msgspec.msgpack.encode([VERSION + 1, ID, EDGE, {"anything": "else"}])
    with pytest.raises(codec.UnknownVersionError) as caught:
        codec.decode_request(later)
    assert caught.value.preamble == Preamble(VERSION + 1, ID, EDGE)
    assert caught.value.code is Code.UNSUPPORTED_VERSION


def test_an_unknown_version_with_hostile_names_is_not_answered() -> None:
    for id_, edge in ((ID, "x.>"), ("*", EDGE)):
        with pytest.raises(HeadraceError) as caught:
            codec.decode_request(msgspec.msgpack.encode([VERSION + 1, id_, edge]))
        assert caught.value.code is Code.BAD_MESSAGE


@pytest.mark.parametrize("field", ["id", "edge", "model"])
def test_a_request_with_a_hostile_name_is_refused(field: str) -> None:
    example = EXAMPLES["request"]
    assert isinstance(example, Request)
    hostile = msgspec.structs.replace(example, **{field: "a.>"})
    with pytest.raises(HeadraceError, match="bad_message"):
        codec.decode_request(codec.encode(hostile))


def test_later_versions_may_append_fields_to_frames() -> None:
    longer = msgspec.msgpack.encode(["c", 1, 2, b"x", b"", "new field"])
    assert codec.decode_frame(longer) == frames.Chunk(1, 2, b"x")


@given(st.text(max_size=80))
def test_only_admitted_names_reach_a_subject(text: str) -> None:
    builders: list[Callable[[], str]] = [
        lambda: subjects.request(Slug(text), "high", ProcessId(EDGE)),
        lambda: subjects.request(Slug("m"), text, ProcessId(EDGE)),
        lambda: subjects.request(Slug("m"), "high", ProcessId(text)),
        lambda: subjects.requests(Slug(text), "high"),
        lambda: subjects.requests_of(ProcessId(text)),
        lambda: subjects.edge(ProcessId(text)),
        lambda: subjects.consumer(Slug(text), "low"),
        lambda: subjects.response(ProcessId(text), RequestId(ID)),
        lambda: subjects.response(ProcessId(EDGE), RequestId(text)),
        lambda: subjects.responses(ProcessId(text)),
        lambda: subjects.responses_together(ProcessId(text)),
        lambda: subjects.control(ProcessId(text)),
        lambda: subjects.state(Slug(text), Slug("m"), ProcessId(WORKER)),
        lambda: subjects.plan(Slug("c"), Slug(text)),
        lambda: subjects.demand(Slug(text)),
        lambda: subjects.worker_inbox(ProcessId(text)),
        lambda: subjects.external_inbox(ProcessId(text)),
        lambda: subjects.edge_inbox(ProcessId(text)),
    ]
    for build in builders:
        try:
            subject = build()
        except ValueError:
            continue
        own = subject.removeprefix("hr.req.*.*.").removesuffix(".*")
        assert not set(own) & set(" \t\r\n*>")
        assert "" not in subject.split(".")
        assert subject.isascii()


@given(st.text(min_size=1, max_size=120))
def test_a_model_name_makes_a_slug_or_an_error(name: str) -> None:
    try:
        made = names.slug_of(name)
    except ValueError:
        return
    assert names.slug(made) == made


def test_slugs_of_common_names() -> None:
    assert names.slug_of("Qwen/Qwen3-8B") == "qwen-qwen3-8b"
    assert names.slug_of("SmolLM2-135M-Instruct") == "smollm2-135m-instruct"


def test_consumers_of_different_lanes_never_collide() -> None:
    models = [Slug("a"), Slug("a-high"), Slug("a-high-high")]
    every = [subjects.consumer(model, lane) for model in models for lane in LANES]
    assert len(set(every)) == len(every)


def test_every_code_says_how_it_is_told() -> None:
    assert set(KINDS) == set(Code)
    assert all(400 <= kind.status < 600 for kind in KINDS.values())


def test_every_endpoint_has_a_path() -> None:
    assert set(ENGINE_PATHS) == set(Endpoint)


def test_fresh_ids_are_admitted() -> None:
    assert names.request_id(names.new_request_id())
    assert names.process_id(names.new_process_id())


def test_response_subject_tells_its_request() -> None:
    subject = subjects.response(ProcessId(EDGE), RequestId(ID))
    assert subjects.response_request(subject) == ID


def test_every_message_kind_has_an_example() -> None:
    kinds = {*frames.Frame.__args__, *Control.__args__, Request, WorkerState, Plan}
    assert {type(example) for example in EXAMPLES.values()} == kinds
