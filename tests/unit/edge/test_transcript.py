"""What a stream has sent, read back: text, ids, and what cannot be continued."""

import json
from typing import Any

import pytest

from headrace.edge.dispatch import transcript
from headrace.edge.dispatch.resumable import too_large, why_not
from headrace.edge.dispatch.transcript import Transcript
from headrace.protocol.endpoints import Endpoint
from headrace.protocol.requests import MAX_BODY_BYTES, Partial


def event(delta: dict[str, Any] | None = None, **choice: Any) -> bytes:
    inner = {"index": 0, **({"delta": delta} if delta is not None else {}), **choice}
    whole = {"id": "chatcmpl-1", "created": 7, "choices": [inner]}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
WORDS = ["Once", " upon", " a", " tüme"]


def said(*words: str, tokens: bool = False) -> Transcript:
    made = Transcript()
    made.add(ROLE, b"")
    for number, word in enumerate(words):
        made.add(event({"content": word}), number.to_bytes(4, "little") if tokens else b"")
    return made


@pytest.mark.parametrize("compact", [1, 100, 10_000_000])
def test_text_and_ids_whenever_it_is_read(monkeypatch: pytest.MonkeyPatch, compact: int) -> None:
    monkeypatch.setattr(transcript, "COMPACT_BYTES", compact)
    made = said(*WORDS, tokens=True)
    ids = b"".join(number.to_bytes(4, "little") for number in range(4))
    assert made.why_not() == ""
    assert made.partial() == Partial(made.after, "chatcmpl-1", 7, "".join(WORDS), ids, 4)


def test_several_events_in_a_chunk_and_several_tokens_in_an_event() -> None:
    made = Transcript()
    made.add(ROLE + event({"content": "ab"}) + event({"content": "c"}), b"1..." * 5)
    assert (made.partial().text, made.partial().count) == ("abc", 5)


def test_ids_count_only_where_all_are_known() -> None:
    made = said(*WORDS, tokens=True)
    made.add(event({"content": "!"}), b"")
    assert (made.partial().tokens, made.partial().count) == (b"", 5)


def test_a_completion() -> None:
    made = Transcript()
    made.add(event(text="Once") + event(text=" upon", finish_reason="stop"), b"")
    assert made.partial() == Partial(made.after, "chatcmpl-1", 7, "Once upon", b"", 2, "stop")


def test_the_end_and_the_usage_add_nothing() -> None:
    made = said(*WORDS)
    made.add(b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1}}\n\n', b"")
    made.add(b": comment\n\ndata: [DONE]\n\n", b"")
    assert made.why_not() == ""
    assert made.partial().text == "".join(WORDS)


def test_nothing_but_a_role_has_not_begun() -> None:
    made = Transcript()
    made.add(ROLE, b"")
    assert not made.begun
    assert made.partial().text == ""
    assert said("Once").begun


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (event({"tool_calls": [{"index": 0}]}), "a tool call"),
        (event({"function_call": {"name": "f"}}), "a tool call"),
        (event({"refusal": "no"}), "a refusal"),
        (event({"content": "x"}, index=1), "several choices"),
        (event({"content": "x"}, logprobs={"content": []}), "log probabilities"),
        (event({"reasoning_content": "hm"}), "reasoning"),
        (event({"reasoning": "hm"}), "reasoning"),
        (b"data: {\n\n", "what is not an event of OpenAI's API"),
        (event({"content": "x", "tool_calls": [], "reasoning_content": None}), ""),
    ],
)
def test_what_cannot_be_continued(events: bytes, why: str) -> None:
    made = Transcript()
    made.add(ROLE + events, b"")
    assert made.why_not() == why
    assert made.begun


def test_reasoning_that_has_ended_is_continued_by_ids_alone() -> None:
    for tokens, why in ((b"1...", ""), (b"", "reasoning")):
        made = Transcript()
        made.add(event({"reasoning_content": "hm"}), tokens)
        made.add(event({"content": "Yes"}), tokens)
        assert made.why_not() == why


def test_it_does_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "MAX_BYTES", 1000)
    made = Transcript()
    for _ in range(1000):
        made.add(event({"content": "word " * 4}), b"")
    assert made.size < transcript.COMPACT_BYTES + 2000
    assert made.why_not()


@pytest.mark.parametrize(("data", "tokens"), [(b"", b""), (b"\n", b"x" * 4096)])
def test_chunks_that_say_nothing_do_not_add_up(
    monkeypatch: pytest.MonkeyPatch, data: bytes, tokens: bytes
) -> None:
    """A worker that lies may send as many as it likes."""
    monkeypatch.setattr(transcript, "MAX_BYTES", 100_000)
    made = Transcript()
    for _ in range(10_000):
        made.add(data, tokens)
        assert len(made._chunks) <= transcript.COMPACT_BYTES / transcript.CHUNK_BYTES
        assert made.size <= 100_000 + 3 * transcript.COMPACT_BYTES


def test_torn_ids_are_no_ids() -> None:
    made = Transcript()
    made.add(event({"content": "x"}), b"12345")
    assert made.partial().tokens == b""


def test_an_end_without_text_has_begun() -> None:
    """Of several choices one may have ended so, and the others are yet to come."""
    made = Transcript()
    made.add(ROLE + event({"content": ""}, finish_reason="stop"), b"")
    assert made.begun


def test_what_does_not_fit_into_a_message_is_told() -> None:
    body = b"x" * (MAX_BODY_BYTES - 10)
    assert not too_large(body, Partial(1, text="five!", tokens=b"1234"))
    assert too_large(body, Partial(1, text="fünf!!", tokens=b"1234"))


CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("endpoint", "fields", "why"),
    [
        ("chat", {}, ""),
        ("chat", {"n": 1, "logprobs": False, "response_format": {"type": "text"}}, ""),
        ("chat", {"tools": [{}], "tool_choice": "auto", "seed": 1, "temperature": 0.5}, ""),
        ("chat", {"n": 2}, "several choices"),
        ("chat", {"logprobs": True}, "log probabilities"),
        ("chat", {"top_logprobs": 2}, "log probabilities"),
        ("chat", {"use_beam_search": True}, "beam search"),
        ("chat", {"presence_penalty": 0.5}, "penalties on what was written"),
        ("chat", {"frequency_penalty": -1}, "penalties on what was written"),
        ("chat", {"response_format": {"type": "json_object"}}, "guided output"),
        ("chat", {"response_format": "json"}, "guided output"),
        ("chat", {"guided_regex": "a+"}, "guided output"),
        ("chat", {"structured_outputs": {}}, "guided output"),
        ("chat", {"tool_choice": "required"}, "guided output"),
        ("chat", {"tool_choice": {"type": "function"}}, "guided output"),
        ("chat", {"n": "2"}, "a request that we do not understand"),
        ("completions", {"prompt": "Hi"}, ""),
        ("completions", {"prompt": [1, 2, 3]}, ""),
        ("completions", {"prompt": ["a", "b"]}, "several prompts"),
        ("completions", {"prompt": [[1], [2]]}, "several prompts"),
        ("completions", {"prompt": "Hi", "echo": True}, "an echo of the prompt"),
        ("completions", {"prompt": "Hi", "suffix": "x"}, "a suffix"),
        ("completions", {"prompt": "Hi", "logprobs": 1}, "log probabilities"),
        ("completions", {"prompt": "Hi", "best_of": 3}, "several choices"),
    ],
)
def test_what_a_request_may_ask_for_to_be_continued(
    endpoint: str, fields: dict[str, Any], why: str
) -> None:
    body = json.dumps((CHAT if endpoint == "chat" else {}) | fields).encode()
    assert why_not(Endpoint(endpoint), body) == why


def test_a_usage_that_was_told_with_the_end_is_not_told_again() -> None:
    end = b'{"choices":[{"text":"","finish_reason":"length"}]'
    for usage, told in ((b"", False), (b',"usage":null', False), (b',"usage":{"a":1}', True)):
        made = Transcript()
        made.add(b"data: " + end + usage + b"}\n\n", b"")
        assert made.partial().told is told
