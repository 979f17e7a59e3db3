"""Token ids taken out of events: the client sees what it would have seen without them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.worker.stream.token_ids import TokenIdExtractor, pack, unpack

DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, Any] | None, ids: Any = None, finish: str | None = None) -> bytes:
    """As vLLM spells it; a delta that is None makes it a completion's without text."""
    choice: dict[str, Any] = {"index": 0}
    choice |= {"text": ""} if delta is None else {"delta": delta}
    choice |= {"logprobs": None, "finish_reason": finish, "token_ids": ids}
    data = json.dumps({"id": "c", "choices": [choice]}, separators=(",", ":"))
    return f"data: {data}\n\n".encode()


def said(text: str, ids: Any = None, finish: str | None = None) -> bytes:
    return event({"content": text}, ids, finish)


def test_the_ids_are_taken_out_and_the_key_stays_as_it_is_without() -> None:
    taker = TokenIdExtractor()
    events, ids = taker.take(said("a", [1, 258]) + said("b", [70000]))
    assert events == said("a") + said("b")
    assert unpack(ids) == [1, 258, 70000]
    assert ids[:8] == b"\x01\0\0\0\x02\x01\0\0"


def test_events_without_ids_are_not_touched() -> None:
    taker = TokenIdExtractor()
    for events in (said("a"), DONE, b": comment\n\n", said("b", [])):
        assert taker.take(events)[1] == b""
    assert taker.take(said("b") + DONE) == (said("b") + DONE, b"")
    assert taker.take(said("b", []))[0] == said("b")


def test_the_prompts_ids_are_taken_out_and_forgotten() -> None:
    first = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}],"prompt_token_ids":%b}'
    taker = TokenIdExtractor()
    alone = taker.take(first % b"[1,2]" + b"\n\n")
    assert alone == (first % b"null" + b"\n\n", b"")
    got = taker.take(first % b"[1,2]" + b"\n\n" + said("a", [3]))
    assert got == (first % b"null" + b"\n\n" + said("a"), pack(b"3"))


@pytest.mark.parametrize("silent", [said("", [1]), event(None, [1])])
def test_ids_without_text_travel_with_the_text(silent: bytes) -> None:
    taker = TokenIdExtractor()
    events, ids = taker.take(said("x", [0]) + silent)
    assert unpack(ids) == [0]
    assert events.count(b"data:") == 2
    assert b"[1]" not in events
    assert taker.take(silent)[1] == b""
    assert unpack(taker.take(said("🎉", [2]))[1]) == [1, 1, 2]
    assert unpack(taker.take(said("y", [3]))[1]) == [3]


def test_the_end_brings_all_ids() -> None:
    taker = TokenIdExtractor()
    assert taker.take(said("", [7]))[1] == b""
    assert unpack(taker.take(said("", [8], "stop"))[1]) == [7, 8]


def test_an_event_that_is_there_for_its_ids_alone_is_taken_out() -> None:
    taker = TokenIdExtractor()
    assert taker.take(event({}, [1])) == (b"", b"")
    assert taker.take(event({}, [2]) + said("a", [3])) == (said("a"), pack(b"1,2,3"))
    assert taker.take(event({}, [4], "stop"))[0] == event({}, None, "stop")


@given(st.text(), st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_no_text_of_a_model_looks_like_ids(text: str, ids: list[int]) -> None:
    for each in (text, f'"token_ids":{ids}', f'","token_ids":[1],"{text}'):
        events, taken = TokenIdExtractor().take(said("x" + each, ids))
        assert events == said("x" + each)
        assert unpack(taken) == ids
