"""Events out of bytes, whatever the chunking; the usage found, and only what is ours taken out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import Usage
from headrace.worker.stream.sse import Splitter, UsageReader, is_done, split, usage_of

LIMIT = 10_000
DONE = b"data: [DONE]\n\n"

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
events = st.builds(
    lambda lines, end: "".join(line + end for line in lines).encode() + end.encode(),
    st.lists(texts.filter(bool), min_size=1, max_size=3),
    st.sampled_from(["\n", "\r\n"]),
)


def chunk(text: str | None = None, usage: object = "absent") -> bytes:
    body: dict[str, object] = {"id": "1"}
    body["choices"] = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    if usage != "absent":
        body["usage"] = usage
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.lists(events, max_size=6), texts, st.lists(st.integers(0), max_size=12))
def test_any_chunking_gives_the_same_events(
    whole: list[bytes], rest: str, places: list[int]
) -> None:
    stream = b"".join(whole) + rest.encode()
    splitter = Splitter(LIMIT)
    fed = [splitter.feed(piece) for piece in cut(stream, places) if piece]
    assert b"".join(fed) == b"".join(whole)
    assert splitter.rest == rest.encode()
    for piece in fed:
        assert piece == b"" or piece.endswith((b"\n\n", b"\n\r\n")), "an event was torn"
    assert [event for piece in fed for event in split(piece)] == whole


def test_an_event_that_never_ends_is_refused() -> None:
    splitter = Splitter(100)
    splitter.feed(b"data: 1\n\ndata: " + b"x" * 90)
    with pytest.raises(HeadraceError) as caught:
        splitter.feed(b"x" * 20)
    assert caught.value.code is Code.RESPONSE_TOO_LARGE


def test_a_large_event_within_the_limit_passes_byte_by_byte() -> None:
    event = b"data: " + b"x" * 500 + b"\n\n"
    splitter = Splitter(1000)
    assert b"".join(splitter.feed(event[i : i + 1]) for i in range(len(event))) == event


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_the_end_is_known_at_the_beginning_of_a_line_only(end: bytes) -> None:
    assert is_done(b"data: [DONE]" + end)
    assert is_done(b"data:[DONE]" + end)
    assert is_done(b'data: {"a": 1}' + end + b"data: [DONE]" + end)
    assert not is_done(b'data: {"a": "data: [DONE]"}' + end)
    assert not is_done(b"data: [DONE]" + end + b'data: {"a": 1}' + end)
    assert not is_done(b": data: [DONE]" + end)
    assert not is_done(b"")


@given(texts)
def test_no_text_of_a_model_ends_a_stream(text: str) -> None:
    for spelled in (text + "\ndata: [DONE]", text + "\n\ndata: [DONE]\n\n"):
        assert not is_done(chunk(spelled))


USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def test_the_usage_event_that_only_we_asked_for_is_taken_out() -> None:
    reader = UsageReader(keep=False)
    assert reader.read(chunk("a")) == chunk("a")
    assert reader.read(chunk("b") + chunk(usage=USAGE) + DONE) == chunk("b") + DONE
    assert reader.usage == Usage(5, 7)


def test_the_usage_event_that_the_client_asked_for_stays() -> None:
    reader = UsageReader(keep=True)
    stream = chunk("b", usage=None) + chunk(usage=USAGE) + DONE
    assert reader.read(stream) == stream
    assert reader.usage == Usage(5, 7)


def test_the_usage_goes_with_the_end() -> None:
    """So that who goes on after a stream that broke off knows whether it has been told."""
    reader = UsageReader(keep=True)
    assert reader.read(chunk("b") + chunk(usage=USAGE)) == chunk("b")
    assert reader.read(chunk("c")) == chunk(usage=USAGE) + chunk("c"), "if something else follows"
    assert reader.read(chunk(usage=USAGE)) == b""
    assert reader.read(DONE) == chunk(usage=USAGE) + DONE
    assert reader.read(DONE) == DONE


def test_a_usage_beside_a_token_stays() -> None:
    reader = UsageReader(keep=False)
    stream = chunk("a", usage=USAGE) + DONE
    assert reader.read(stream) == stream
    assert reader.usage == Usage(5, 7)


@pytest.mark.parametrize(
    "event",
    [
        chunk('"usage": {"prompt_tokens": 1}'),
        chunk(usage=None),
        chunk("a", usage="odd"),
        b'data: {"usage": \n\n',
        b': comment "usage"\n\n',
        b'event: error\ndata: {"error": {"usage": {}}}\n\n',
    ],
)
def test_what_is_no_usage_stays_and_counts_nothing(event: bytes) -> None:
    reader = UsageReader(keep=False)
    assert reader.read(event) == event
    assert reader.usage == Usage()


@given(st.lists(st.one_of(texts.map(chunk), st.just(chunk("x", usage=None))), max_size=5))
def test_nothing_but_that_event_is_ever_lost(tokens: list[bytes]) -> None:
    reader = UsageReader(keep=False)
    assert reader.read(b"".join([*tokens, chunk(usage=USAGE), DONE])) == b"".join([*tokens, DONE])


def test_the_usage_of_a_whole_answer() -> None:
    assert usage_of(json.dumps({"choices": [{}], "usage": USAGE}).encode()) == Usage(5, 7)
    assert usage_of(json.dumps({"usage": {"prompt_tokens": 3}}).encode()) == Usage(3, 0)
    assert usage_of(
        json.dumps({"usage": {"prompt_tokens": 3, "completion_tokens": None}}).encode()
    ) == Usage(3, 0)
    assert usage_of(b"<html>") == Usage()
    assert usage_of(b'{"usage": null}') == Usage()
